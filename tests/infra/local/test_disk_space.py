"""Room on the disk."""

from pathlib import Path

import pytest

from infra.local.disk_space import require_space
from schemas.errors import ConfigurationError


def test_a_disk_with_room_passes(tmp_path: Path):
    require_space(tmp_path, needed_mb=1)


def test_a_full_disk_is_named_with_what_is_left(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"has \d+ MB left and the stack needs \d+: make room"):
        require_space(tmp_path, needed_mb=10**9)
