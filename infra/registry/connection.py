"""The connection to MLflow's tables: created once, written by one process of a machine at a time, quick to say no.

MLflow is imported when it is first used, for that takes three seconds and 200 MB.
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
from typing import Any, TypeVar

from filelock import AcquireReturnProxy, FileLock, Timeout
from sqlalchemy import URL, inspect

from infra.sql.database import Database, open_sqlite, parse_url
from infra.sql.failures import one_line, place
from infra.uncollected import uncollected
from schemas.errors import ConfigurationError, Unavailable

T = TypeVar("T")
Action = Callable[[Any], T]
"""Works with an ``MlflowClient``. May be called again after a failure, so doing it twice must be doing it once."""

_ATTEMPTS = 5
_LOCK_SECONDS = 60.0
_TABLE = "model_versions"
_OUT_OF_DATE = "out-of-date database schema"


class MlflowConnection:
    """MLflow's tables at an SQLAlchemy URL; what MLflow keeps as files, and the lock, lie below the folder."""

    def __init__(self, url: str, folder: Path) -> None:
        try:
            self.url = parse_url(url)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("[sql]", "[registry]")) from None
        if self.url.get_backend_name() == "postgresql":
            # MLflow waits for ever on a server that does not answer
            self.url = self.url.update_query_dict({"connect_timeout": "10"})
        self.folder = folder
        self._lock = FileLock(folder / ".lock")  # a thread that holds it may take it again
        self._client: Any = None
        self._starting = threading.Lock()

    @property
    def artifacts(self) -> str:
        """The URI below which MLflow may keep files."""
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
                    database.lock(connection, ["everlearn registry"])  # other machines prepare as well
                _translated(self.url, lambda: _create_tables(url, self.artifacts))
            marker.touch()

    def read(self, action: Action[T]) -> T:
        """What the action gives. Raises Unavailable when the store cannot be reached or has no tables yet."""
        return self._repeated(action)

    def write(self, action: Action[T]) -> T:
        """Like ``read``, while no other process of this machine writes."""
        self._connected()  # before the lock: whoever connects in another thread takes the two the other way round
        with self._locked():
            return self._repeated(action)

    def close(self) -> None:
        """Closes idle connections; they open again when they are needed."""
        with self._starting:
            if self._client is not None:
                for part in (self._client._tracking_client, self._client._get_registry_client()):
                    part.store.engine.dispose()

    def _repeated(self, action: Action[T]) -> T:
        client = self._connected()
        for attempt in range(_ATTEMPTS):
            try:
                return _translated(self.url, lambda: action(client))
            except Unavailable as error:
                # another machine's writer, or the file's owner at a checkpoint
                if "locked" not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    def _connected(self) -> Any:
        with self._starting:
            if self._client is None:
                if not self._has_tables():
                    raise Unavailable(f"the registry at {place(self.url)} has no tables yet: run 'everlearn up'")
                url = self.url.render_as_string(hide_password=False)
                _mlflow()
                with self._locked():  # the tables may be there and half made
                    self._client = _translated(self.url, lambda: _new_client(url))
            return self._client

    def _has_tables(self) -> bool:
        """Asked without MLflow, which would take 100 seconds to say that it cannot connect."""
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
    """Imports MLflow, without its telemetry, its chatter, and warnings that are not for us."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with uncollected(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # It logs each failure with its traceback; ours tell what is wrong in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _new_client(url: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)


def _create_tables(url: str, artifacts: str) -> None:
    _mlflow()
    from mlflow.db import upgrade
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # Made here rather than by the first client, whose first experiment would keep its files in whatever folder
    # its process happens to be in.
    try:
        store = SqlAlchemyStore(url, artifacts)
    except MlflowException as error:
        if _OUT_OF_DATE not in str(error):
            raise
        upgrade.callback(url)  # type: ignore[misc]  # the function of the command ``mlflow db upgrade``
        store = SqlAlchemyStore(url, artifacts)
    store.engine.dispose()


def _translated(url: URL, action: Callable[[], T]) -> T:
    """Raises Unavailable in place of MLflow's own error where the store failed and not what was asked of it."""
    _mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    try:
        return action()
    except DBAPIError as error:
        cause: BaseException = error
    except MlflowException as error:
        if _OUT_OF_DATE in str(error):
            raise Unavailable(
                f"the registry at {place(url)} is of another version of MLflow: run 'everlearn up' to upgrade it"
            ) from error
        if error.error_code != "TEMPORARILY_UNAVAILABLE":
            raise
        cause = error.__cause__ or error
    reason = one_line(getattr(cause, "orig", None) or cause, url)
    raise Unavailable(f"the registry at {place(url)}: {reason}; check that it runs, or set [registry] url") from cause
