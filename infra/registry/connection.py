"""Connects to MLflow's tables: creates them, lets one process of a machine write at a time, and fails quickly.

MLflow is imported when it is first used, because that takes three seconds and 200 MB.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import AcquireReturnProxy, FileLock, Timeout
from sqlalchemy import URL, inspect

from infra.private_files import create_file
from infra.sql.database import Database, open_sqlite, parse_url
from infra.sql.failures import is_passing, one_line, place
from schemas.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
Action = Callable[["MlflowClient"], T]
"""Uses an ``MlflowClient``. It must be idempotent, because it is called again after some failures."""

_ATTEMPTS = 5
_LOCK_SECONDS = 60.0
_TABLE = "model_versions"
_OUT_OF_DATE = "out-of-date database schema"
_STORE_FAILED = frozenset({"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED"})
"""MLflow's codes for what is not the request's fault."""


class MlflowConnection:
    """MLflow's tables at an SQLAlchemy URL; its files and the lock lie below the folder."""

    def __init__(self, url: str, folder: Path) -> None:
        try:
            self.url = parse_url(url)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("[sql]", "[registry]")) from None
        if self.url.get_backend_name() == "postgresql":
            # without it MLflow waits forever for a server that does not answer
            self.url = self.url.update_query_dict({"connect_timeout": "10"})
        self.folder = folder
        self._lock = FileLock(folder / ".lock")  # reentrant for the thread that holds it
        self._client: MlflowClient | None = None
        self._starting = threading.Lock()

    @property
    def artifacts(self) -> str:
        """The URI of the folder in which MLflow may keep files."""
        return (self.folder / "artifacts").absolute().as_uri()

    def prepare(self) -> None:
        """Creates the tables, or upgrades them after an upgrade of MLflow; quick when there is nothing to do.

        Raises Unavailable when the store cannot be reached, ConfigurationError when it cannot be created.
        """
        with self._locked():
            marker = self.folder / f".mlflow-{version('mlflow')}"
            self._create_file()
            if self._has_tables() and marker.exists():
                return
            url = self.url.render_as_string(hide_password=False)
            with ExitStack() as stack:
                if self.url.get_backend_name() == "postgresql":
                    database = Database(url)
                    stack.callback(database.close)
                    connection = stack.enter_context(database.connection(write=True))
                    database.lock(connection, ["everlearn registry"])  # another machine may prepare at the same time
                _translated(self.url, lambda: _create_tables(url, self.artifacts))
            marker.touch()

    def read(self, action: Action[T]) -> T:
        """Runs an action, returns its result. Raises Unavailable when the store is not reachable or has no tables."""
        return self._repeated(action)

    def write(self, action: Action[T]) -> T:
        """Runs an action like ``read``, while no other process of this machine writes."""
        self._connected()  # before the lock, to take the two locks in the same order as a thread that connects first
        with self._locked():
            return self._repeated(action)

    def close(self) -> None:
        """Closes idle connections; they open again when they are needed."""
        with self._starting:
            if self._client is not None:
                # Private, because MLflow has no public way to close a client's connections.
                for part in (self._client._tracking_client, self._client._get_registry_client()):
                    part.store.engine.dispose()

    def _repeated(self, action: Action[T]) -> T:
        client = self._connected()
        for attempt in range(_ATTEMPTS):
            try:
                return _translated(self.url, lambda: action(client))
            except Unavailable as error:
                # another machine writes, or SQLite writes a checkpoint
                if "locked" not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    def _connected(self) -> MlflowClient:
        with self._starting:
            if self._client is None:
                if not self._has_tables():
                    raise Unavailable(f"the registry at {place(self.url)} has no tables yet: run 'everlearn up'")
                url = self.url.render_as_string(hide_password=False)
                _mlflow()
                with self._locked():  # another process may be creating the tables
                    self._client = _translated(self.url, lambda: _new_client(url))
            return self._client

    def _has_tables(self) -> bool:
        """Looks for MLflow's tables without MLflow, which takes 100 seconds to report that it cannot connect."""
        if self.url.get_backend_name() == "sqlite" and not Path(str(self.url.database)).is_file():
            return False
        database = Database(self.url.render_as_string(hide_password=False))
        try:
            with database.connection() as connection:
                return inspect(connection).has_table(_TABLE)
        except Unavailable as error:
            raise Unavailable(str(error).replace("[sql]", "[registry]")) from error
        finally:
            database.close()

    def _create_file(self) -> None:
        if self.url.get_backend_name() != "sqlite":
            return
        path = Path(str(self.url.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            create_file(path)
            open_sqlite(str(path), mode="rwc").close()
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"the registry {path} cannot be opened or created ({error}): make its folder writable, "
                "or set [registry] url"
            ) from error

    def _locked(self) -> AcquireReturnProxy[FileLock]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout as error:
            raise Unavailable(
                f"another process has written to the registry in {self.folder} for a minute: wait for it, or end it"
            ) from error
        except OSError as error:
            raise Unavailable(
                f"{self.folder} cannot be written ({error.strerror or error}): make it writable, or choose another home"
            ) from error


@cache
def _mlflow() -> None:
    """Imports MLflow without its telemetry, its log lines and its warnings about its own code."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # It logs each failure with a traceback; our errors say it in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _new_client(url: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)


def _create_tables(url: str, artifacts: str) -> None:
    _mlflow()
    from mlflow.db import upgrade
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # Created here, with a folder for artifacts: the first client would put the default experiment's files into the
    # working directory of its process.
    try:
        store = SqlAlchemyStore(url, artifacts)
    except MlflowException as error:
        if _OUT_OF_DATE not in str(error):
            raise
        upgrade.callback(url)  # type: ignore[misc]  # the function of the command ``mlflow db upgrade``
        store = SqlAlchemyStore(url, artifacts)
    store.engine.dispose()


def _translated(url: URL, action: Callable[[], T]) -> T:
    """Runs an action; raises Unavailable in place of MLflow's error where the store failed, not the request."""
    _mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    try:
        return action()
    except DBAPIError as error:
        if not is_passing(error):
            raise
        cause: BaseException = error
    except MlflowException as error:
        if _OUT_OF_DATE in str(error):
            raise Unavailable(
                f"the registry at {place(url)} is of another version of MLflow: run 'everlearn up' to upgrade it"
            ) from error
        cause = error.__cause__ or error
        # MLflow calls everything that is no error of its own an internal one, and a bad request what SQL refuses.
        by_sql = isinstance(cause, DBAPIError) and is_passing(cause)
        if not by_sql and error.error_code not in _STORE_FAILED:
            raise
    reason = one_line(getattr(cause, "orig", None) or cause, url)
    raise Unavailable(f"the registry at {place(url)}: {reason}; check that it runs, or set [registry] url") from cause
