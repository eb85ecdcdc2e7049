"""The registry for commands that look into it, and how its records are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from infra.settings import Settings
from schemas.errors import EverlearnError
from schemas.registry import AdapterRecord, ModelRecord

if TYPE_CHECKING:
    from infra.registry.mlflow import MlflowRegistry

SHOWN_ID = 12
"""So much of an id tells adapters apart; every command takes the beginning for the whole."""


@contextmanager
def open_registry(settings: Settings) -> Iterator[MlflowRegistry]:
    """Its methods raise Unavailable when there is none yet or it cannot be reached."""
    from infra.registry.mlflow import MlflowRegistry  # here, because what it stands on takes seconds to import

    registry = MlflowRegistry(
        settings.registry_url(), settings.registry_folder, adapters_folder=settings.adapters_folder
    )
    try:
        yield registry
    finally:
        registry.close()


def by_prefix(records: Sequence[AdapterRecord], wanted: str) -> AdapterRecord:
    """The adapter whose id begins so. Raises EverlearnError where it is none, or several."""
    found = [each for each in records if each.adapter_id.startswith(wanted)]
    if not found or not wanted:
        raise EverlearnError(f"the registry knows no adapter {wanted!r}: see 'everlearn adapters list'")
    if len(found) > 1:
        names = ", ".join(each.adapter_id for each in found[:3])
        raise EverlearnError(f"{len(found)} adapters begin with {wanted!r}: {names}; give more of the id")
    return found[0]


def describe(record: AdapterRecord | ModelRecord) -> dict[str, Any]:
    """A record for programs: times in ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(record).items()}


def figures(values: dict[str, float]) -> str:
    """``exact_match 0.812, loss 0.312``."""
    return ", ".join(
        f"{name} {value:.3g}" if abs(value) < 1000 else f"{name} {value:,.0f}" for name, value in values.items()
    )


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
