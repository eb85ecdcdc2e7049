"""Every row of the table of errors in docs/delivery.md names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_each_row_of_the_table_of_errors_is_held_by_a_test():
    named = re.findall(r"`(tests/\S+\.py)(?:::(\w+))?`", (ROOT / "docs" / "delivery.md").read_text())
    assert len(named) > 25
    for path, name in named:
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path} has no test {name}"
