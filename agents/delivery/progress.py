"""Passes the progress of a run from its child process to the worker, in a file of the run's folder."""

from __future__ import annotations

import json
from pathlib import Path

from agents.delivery.atomic_write import write_atomically
from schemas.event import JsonObject
from schemas.figures import jsonable

FILE = "progress.json"


def write_progress(folder: Path, done: float, text: str, *, eta_seconds: float | None = None) -> None:
    """Writes the child's progress: the share ``done`` from 0 to 1, and a ``text`` for the user."""
    progress = {"done": round(done, 4), "text": text, "eta_seconds": eta_seconds}
    write_atomically(folder / FILE, json.dumps(jsonable(progress)))


def read_progress(folder: Path) -> JsonObject:
    """Returns what the child wrote last, or an empty object before it has written anything."""
    try:
        progress = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return progress if isinstance(progress, dict) else {}
