"""Passes the settings of a worker on to the child processes of its runs."""

from __future__ import annotations

from pathlib import Path

from infra.settings import Settings, load
from schemas.errors import ConfigurationError
from schemas.event import JsonObject
from schemas.tasks import Task


def settings_location(settings: Settings) -> JsonObject:
    """Returns the arguments of a run by which ``settings_of`` finds the same settings.

    The home folder is not among them: a worker on another machine, with another home, may take the run over.
    """
    return {"config": str(settings.config.absolute()) if settings.config is not None else None}


def settings_of(arguments: JsonObject, folder: Path) -> Settings:
    """Loads the settings in a run's child process. ``folder`` is ``<home>/work/runs/<run id>``.

    Raises ConfigurationError.
    """
    config = arguments.get("config")
    return load(folder.absolute().parents[2], Path(config) if config else None)


def task_of(settings: Settings, name: str) -> Task:
    """Returns a run's task. Raises ConfigurationError when it was removed after the run was requested."""
    task = settings.tasks.get(name)
    if task is None:
        raise ConfigurationError(f"there is no task {name}: add it to everlearn.toml")
    return task
