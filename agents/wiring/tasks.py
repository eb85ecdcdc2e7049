"""Describes the configured tasks as an adapter would learn them now."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from agents.prompt import PROMPT_FORMAT
from infra.settings import Settings
from schemas.tasks import Task, TaskFingerprint, fingerprint_of


def fingerprint(settings: Settings, task: Task) -> TaskFingerprint:
    """Returns a task's fingerprint with this version of Everlearn and of the engine's library. Loads no model."""
    return fingerprint_of(task, prompt_format=PROMPT_FORMAT, engine=_engine(settings.model.engine))


def fingerprints(settings: Settings) -> Mapping[str, TaskFingerprint]:
    """Returns the fingerprints of all tasks, by name."""
    return {name: fingerprint(settings, task) for name, task in settings.tasks.items()}


def _engine(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # an engine that is not named like a library
        return name
