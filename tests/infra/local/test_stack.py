"""What the stack needs before it starts."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from infra.local.programs import PRELOADED
from infra.local.stack import require_space
from schemas.errors import ConfigurationError


def test_a_disk_with_less_room_than_needed_is_refused_and_one_with_more_is_not(tmp_path: Path):
    free_mb = shutil.disk_usage(tmp_path).free // 1024**2
    require_space(tmp_path, needed_mb=free_mb // 2)
    with pytest.raises(ConfigurationError) as refused:
        require_space(tmp_path, needed_mb=2 * free_mb + 1)
    told = re.search(r"has (\d+) MB left and the stack needs (\d+): make room", str(refused.value))
    assert told is not None
    assert int(told[1]) == pytest.approx(free_mb, rel=0.2), "others write to this disk too"
    assert int(told[2]) == 2 * free_mb + 1


@pytest.mark.parametrize("module", PRELOADED)
def test_a_module_that_workers_are_forked_with_exists(module: str):
    assert importlib.util.find_spec(module) is not None
