"""The feature table for commands that look into it, and its rows in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agents.cli.database import open_database
from infra.settings import Settings
from schemas.features import Interaction

if TYPE_CHECKING:
    from infra.sql.features import SqlFeatureTable


@contextmanager
def open_feature_table(settings: Settings) -> Iterator[SqlFeatureTable]:
    """Raises ConfigurationError when there is no database yet, Unavailable when it cannot be reached."""
    from infra.sql.features import SqlFeatureTable

    with open_database(settings) as database:
        yield SqlFeatureTable(database)


def describe_row(row: Interaction) -> dict[str, Any]:
    """A row for programs: times in ISO 8601, without the stamps that only decide between several feedbacks."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(row).items()
        if not name.endswith("_stamp")
    }


def row_facts(row: Interaction) -> dict[str, Any]:
    """A row for people; its sources as places and scores."""
    sources = [f"{each.get('document_id')} ({float(each.get('score') or 0):.3f})" for each in row.sources]
    shown = {name: value for name, value in vars(row).items() if not name.endswith("_stamp")}
    return {name.replace("_", " "): value for name, value in {**shown, "sources": sources}.items()}
