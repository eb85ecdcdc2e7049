"""Opens the database and the model registry for commands that read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from schemas.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from infra.registry.mlflow import MlflowRegistry
    from infra.settings import Settings
    from infra.sql.database import Database
    from infra.sql.drift import SqlDriftChecks
    from infra.sql.features import SqlFeatureTable
    from infra.sql.releases import SqlReleases


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Opens the database. Raises ConfigurationError when there is no database yet, Unavailable when it is away."""
    from infra.sql.database import Database
    from infra.sql.migrate import check_migrated

    database = Database(settings.sql_url())
    try:
        check_migrated(database)
        yield database
    finally:
        database.close()


@contextmanager
def open_checks(settings: Settings) -> Iterator[SqlDriftChecks]:
    """Opens the drift checks. Raises ConfigurationError when there is no database yet, Unavailable when it is away."""
    from infra.sql.drift import SqlDriftChecks

    with open_database(settings) as database:
        yield SqlDriftChecks(database)


@contextmanager
def open_feature_table(settings: Settings) -> Iterator[SqlFeatureTable]:
    """Opens the feature table. Raises ConfigurationError when there is no database yet, Unavailable when it is away."""
    from infra.sql.features import SqlFeatureTable

    with open_database(settings) as database:
        yield SqlFeatureTable(database)


@contextmanager
def feature_table_if_there(settings: Settings) -> Iterator[SqlFeatureTable | None]:
    """Opens the feature table; None on a machine that has no database of its own, or where it is away."""
    with ExitStack() as opened:
        table = None
        with suppress(ConfigurationError, Unavailable):
            table = opened.enter_context(open_feature_table(settings))
        yield table


@contextmanager
def open_releases(settings: Settings) -> Iterator[SqlReleases]:
    """Opens the releases. Raises ConfigurationError when there is no database yet, Unavailable when it is away."""
    from infra.sql.releases import SqlReleases

    with open_database(settings) as database:
        yield SqlReleases(database)


@contextmanager
def open_registry(settings: Settings) -> Iterator[MlflowRegistry]:
    """Opens the registry. Its methods raise Unavailable when there is none yet or it cannot be reached."""
    from infra.registry.mlflow import MlflowRegistry  # here, because MLflow takes seconds to import

    registry = MlflowRegistry(
        settings.registry_url(), settings.registry_folder, adapters_folder=settings.adapters_folder
    )
    try:
        yield registry
    finally:
        registry.close()
