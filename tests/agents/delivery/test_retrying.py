"""A run's child waits for what is unavailable, says so in its progress, and raises everything else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agents.delivery.progress import read_progress, write_progress
from agents.delivery.retrying import PAUSE_SECONDS, retry_while_unavailable
from schemas.errors import EngineCrashed, Unavailable


def test_it_waits_and_its_progress_says_for_what(tmp_path: Path) -> None:
    faults: list[Exception] = [Unavailable("SQL is away"), OSError(errno.ENOSPC, "No space left on device")]
    said = []

    def action() -> str:
        if faults:
            raise faults.pop(0)
        return "done"

    def sleep(seconds: float) -> None:
        assert seconds == PAUSE_SECONDS
        said.append(read_progress(tmp_path))

    write_progress(tmp_path, 0.4, "training", eta_seconds=9.0)
    assert retry_while_unavailable(action, tmp_path, sleep) == "done"
    assert said == [
        {"done": 0.4, "text": "waiting: SQL is away", "eta_seconds": None},
        {"done": 0.4, "text": "waiting: No space left on device; make room on the disk", "eta_seconds": None},
    ]


def test_it_waits_although_its_progress_cannot_be_written(tmp_path: Path) -> None:
    faults = [Unavailable("SQL is away")]

    def action() -> None:
        if faults:
            raise faults.pop()

    retry_while_unavailable(action, tmp_path / "gone", lambda seconds: None)
    assert faults == []


@pytest.mark.parametrize("error", [EngineCrashed("it died"), ValueError("a defect"), FileNotFoundError(2, "gone")])
def test_it_raises_what_waiting_does_not_help(tmp_path: Path, error: Exception) -> None:
    def action() -> None:
        raise error

    with pytest.raises(type(error)):
        retry_while_unavailable(action, tmp_path, lambda seconds: pytest.fail("it must not wait"))
