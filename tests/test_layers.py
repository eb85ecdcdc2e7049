"""Holds the import arrows: import-linter's contracts hold now, and each breaks when it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "schemas", "infra")


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--config", str(tree / "pyproject.toml")],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )


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
        ("agents/recorder/features.py", "from agents.indexer.ports import Embedder"),
        ("agents/indexer/ports.py", "from agents.answerer.ports import Engine"),
        ("agents/recorder/agent.py", "from infra.sql.database import Database"),
        ("agents/recorder/agent.py", "import agents.wiring.recorder"),
        ("agents/answerer/ports.py", "from agents.cli.main import run"),
        ("agents/delivery/outcome.py", "from infra import settings"),
        ("infra/settings.py", "from agents.recorder.features import merge"),
        ("infra/settings.py", "from agents.delivery.worker import Worker"),
        ("infra/settings.py", "import agents.__main__"),
        ("agents/recorder/agent.py", "import sqlalchemy"),
        ("agents/chunking/outline.py", "from infra.settings import Settings"),
        ("agents/wiring/recorder.py", "import faust"),
        ("agents/cli/main.py", "def later():\n    import torch.nn"),
        ("schemas/topics.py", "import numpy"),
        ("agents/delivery/outcome.py", "from agents.recorder.features import merge"),
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


def test_a_room_that_stands_in_no_layer_breaks_a_contract(copy):
    room = copy / "agents" / "translator"
    room.mkdir()
    (room / "__init__.py").write_text("")
    try:
        run = lint_imports(copy)
    finally:
        shutil.rmtree(room)
    assert run.returncode == 1
    assert "translator" in run.stdout
