"""Imports point one way: a broken arrow of the design fails here, and this file shows that it would."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "schemas", "infra")
ROOMS = sorted(path.parent.name for path in (ROOT / "agents").glob("*/ports.py"))
ROOM_MAY_IMPORT = {
    "agents.chunking",
    "schemas.errors",
    "agents.delivery.outcome",
    "agents.prompt",
    "agents.delivery.worker",
}
PURE_LIBRARIES = {"markdown_it", "numpy", "scipy", "river", "pandera", "seqeval", "sacrebleu"}
OUTER_EDGE = ("agents/cli/", "agents/wiring/", "agents/demo/", "agents/gateway/", "agents/__main__.py")


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--config", str(tree / "pyproject.toml")],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )


def modules_imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere in it, with the imported name behind them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: name the module in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree that a test may spoil."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_arrow_of_the_design_holds():
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("schemas/event.py", "import infra.settings"),
        ("schemas/topics.py", "from schemas.errors import InvalidEvent"),
        ("agents/recorder/features.py", "from agents.indexer.ports import Embedder"),
        ("agents/indexer/ports.py", "from agents.answerer.ports import Engine"),
        ("agents/recorder/agent.py", "from infra.sql.database import Database"),
        ("agents/recorder/agent.py", "import agents.wiring.recorder"),
        ("agents/answerer/ports.py", "from agents.cli.main import run"),
        ("agents/delivery/outcome.py", "from infra import settings"),
        ("infra/settings.py", "from agents.recorder.features import merge"),
        ("infra/settings.py", "from agents.delivery.worker import Worker"),
        ("infra/settings.py", "import agents.__main__"),
    ],
)
def test_a_forbidden_import_breaks_a_contract(copy, path, line):
    spoiled = copy / path
    before = spoiled.read_text()
    spoiled.write_text(f"{before}\n{line}\n")
    try:
        run = lint_imports(copy)
    finally:
        spoiled.write_text(before)
    assert run.returncode == 1
    assert "BROKEN" in run.stdout


def test_the_unspoiled_copy_breaks_nothing(copy):
    assert lint_imports(copy).returncode == 0


def test_each_room_stands_in_the_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = {f"agents.{room}" for room in ROOMS}
    assert len(rooms) >= 3
    independence, pure, technology = contracts[1], contracts[2], contracts[3]
    assert rooms <= set(independence["modules"])
    assert rooms <= set(pure["source_modules"])
    assert rooms <= set(technology["forbidden_modules"])


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_contracts_and_pure_libraries_only(room):
    allowed = {"schemas", f"agents.{room}", *ROOM_MAY_IMPORT, *PURE_LIBRARIES, *sys.stdlib_module_names}
    for path in files(f"agents/{room}"):
        strange = [name for name in modules_imported(path) if not within(name, allowed)]
        assert strange == [], path


def test_schemas_import_pydantic_and_the_standard_library_only():
    for path in files("schemas"):
        allowed = {"schemas", "pydantic", *sys.stdlib_module_names}
        strange = [name for name in modules_imported(path) if not within(name, allowed)]
        assert strange == [], path


def test_infra_imports_the_agents_errors_and_nothing_else_of_them():
    for path in files("infra"):
        of_agents = [name for name in modules_imported(path) if within(name, {"agents"})]
        assert [name for name in of_agents if not within(name, {"schemas.errors"})] == [], path


def test_only_the_outer_edge_of_agents_imports_infra():
    for path in files("agents"):
        if not path.relative_to(ROOT).as_posix().startswith(OUTER_EDGE):
            assert [name for name in modules_imported(path) if within(name, {"infra"})] == [], path
