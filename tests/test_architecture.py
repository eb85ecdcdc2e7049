"""Holds ``docs/architecture.md`` to the code: the files and functions it names exist, and no private name hides."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`((?:agents|infra|schemas|tests)/[\w/]*(?:\.py)?(?::[\w.]+)?)`", TEXT)))
HOLDS_PRIVATE = set(re.findall(r"^\| `([\w/]+\.py)` \|", TEXT, re.M))


def names_of(path: Path) -> set[str]:
    """Functions, classes, methods and variables of a module, methods as ``Class.method``."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{each.name}" for each in methods}
    return found


def test_it_names_enough_places_to_follow_three_events() -> None:
    assert sum(":" in place for place in PLACES) >= 50


@pytest.mark.parametrize("place", PLACES)
def test_each_place_that_it_names_exists(place: str) -> None:
    path, _, name = place.partition(":")
    assert (ROOT / path).exists(), place
    if name:
        assert name in names_of(ROOT / path), place


def foreign_private_names(path: Path) -> Iterator[str]:
    """Private attributes of objects other than self, cls and the module's own classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {
        each.attr if isinstance(each, ast.Attribute) else each.name
        for each in ast.walk(tree)
        if (isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id in {"self", "cls"})
        or isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if of not in {"self", "cls", "os"} and node.attr not in own:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.attr}"


def test_private_names_of_libraries_are_only_in_the_files_that_it_lists() -> None:
    files = (path for package in ("agents", "infra", "schemas") for path in (ROOT / package).rglob("*.py"))
    found = {name.partition(":")[0] for path in files for name in foreign_private_names(path)}
    assert found <= HOLDS_PRIVATE
    assert found | {"infra/local/milvus_lite/library.py"} >= HOLDS_PRIVATE, "a file of the list needs none any more"


def test_the_scan_finds_a_private_name(tmp_path: Path) -> None:
    path = ROOT / "agents" / "delivery" / "faust_consumer.py"
    assert any(name.endswith("_committed_offset") for name in foreign_private_names(path))
