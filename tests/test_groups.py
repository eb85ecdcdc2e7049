"""Shows that pytest-xdist runs a group in one process; if it did not, tests that share a stack would each start one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

TESTS = """
import os
import pytest

pytestmark = pytest.mark.xdist_group("one")

@pytest.mark.parametrize("number", range(6))
def test_where(number, record_property):
    record_property("worker", os.environ["PYTEST_XDIST_WORKER"])
"""


def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_group.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "--junitxml", "report.xml", "-q"]
    run = subprocess.run([*command, "test_group.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    report = (tmp_path / "report.xml").read_text()
    assert [report.count(f'value="gw{worker}"') for worker in (0, 1)] in ([6, 0], [0, 6])
