"""docs/reliability.md is true as far as names go: every test, module and make target that it names exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PROMISES = 20


def test_every_promise_has_a_row_with_a_test_or_says_not_yet() -> None:
    rows = {int(number): row for row, number in re.findall(r"^(\| (\d+) \|.*)$", TEXT, re.MULTILINE)}
    assert sorted(rows) == list(range(1, PROMISES + 1))
    assert [number for number, row in rows.items() if "`" not in row and "not yet" not in row] == []


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)
    assert named
    missing = [path for path, _ in named if not (ROOT / path).is_file()]
    assert missing == []
    functions = [(path, name) for path, name in named if name]
    assert [(path, name) for path, name in functions if f"def {name}(" not in (ROOT / path).read_text()] == []


def test_the_commands_that_it_names_exist() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", TEXT))
    assert modules
    assert [module for module in sorted(modules) if importlib.util.find_spec(module) is None] == []
    kinds = set(re.findall(r"python -m benchmarks\.campaign ([a-z]+)", TEXT))
    from benchmarks.campaign.__main__ import KINDS

    assert kinds == set(KINDS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", TEXT)) <= targets


def test_no_figure_is_left_out() -> None:
    assert re.findall(r"@[A-Z]+@", TEXT) == []
