"""A drift check's child process: the windows from SQL, their questions embedded, the tests, the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agents.errors import ConfigurationError
from agents.monitor import windows
from agents.monitor.differences import Floats, nearest
from agents.monitor.verdict import VerdictPolicy, decide, examine
from agents.monitor.windows import WindowPolicy, Windows
from agents.runs import write_progress
from infra.settings import Settings, load
from infra.sql.database import Database
from infra.sql.drift import SqlAnswers
from schemas.drift import DRIFT_CHECK, Baseline, DriftCheck, Finding
from schemas.features import Interaction
from schemas.learning import Window
from schemas.tasks import Task

_SHOWN_NOVEL = 8
_COMPONENTS = 3
Embed = Callable[[Sequence[str]], Floats]


def run(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``arguments``: task, baseline, champion, config. ``folder``: ``<home>/work/<run id>``. Gives ``{"check": …}``."""
    config = arguments.get("config")
    settings = load(folder.parent.parent, Path(config) if config else None)
    task = settings.tasks.get(arguments["task"])
    if task is None:
        raise ConfigurationError(f"there is no task {arguments['task']}: add it to everlearn.toml")
    baseline = Baseline(sequence=arguments["baseline"], champion=arguments["champion"])
    database = Database(settings.sql_url())
    try:
        write_progress(folder, 0.0, "reading the answers")
        found = read_windows(SqlAnswers(database), task.name, baseline, window_policy(settings))
    finally:
        database.close()
    empty = DriftCheck(
        check_id=folder.name,
        task=task.name,
        checked_at=datetime.now(UTC),
        baseline=baseline.sequence,
        reference=windows.span(found.reference, datetime.now(UTC)),
        current=Window(start=datetime.now(UTC), end=datetime.now(UTC), rows=0),
        findings=(),
    )
    check = _check(empty, found, task, settings, folder) if found.currents else _too_few(empty, found, settings)
    return {"check": DRIFT_CHECK.dump_python(check, mode="json")}
