"""A process whose log cannot be written goes on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.delivery.lossy_stream import LossyStream
from schemas.event import JsonObject

ROOT = Path(__file__).parents[3]


def test_what_cannot_be_written_is_dropped_and_what_can_be_is_not(tmp_path: Path):
    with io.TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True) as full:
        stream = LossyStream(full)
        assert stream.write("a line\n") == 7
        stream.flush()
        assert stream.fileno() == full.fileno()
    with (tmp_path / "log").open("w") as file:
        stream = LossyStream(file)
        stream.write("a line\n")
        stream.flush()
        assert (tmp_path / "log").read_text() == "a line\n"


def talkative(arguments: JsonObject, _folder: Path) -> JsonObject:
    """A run that prints much."""
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * 100_000 + "\n")
        stream.flush()
    return arguments


@pytest.mark.processes
def test_a_run_whose_log_is_on_a_full_disk_ends_with_its_result(tmp_path: Path):
    (tmp_path / "arguments.json").write_text('{"a": 1}')
    entry = "tests.agents.delivery.test_lossy_stream:talkative"
    line = [sys.executable, "-m", "agents.delivery.child", entry, str(tmp_path), str(os.getpid()), "0"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, cwd=ROOT, stdout=full, stderr=full, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": 1}
