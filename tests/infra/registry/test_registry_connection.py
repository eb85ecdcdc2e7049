"""The registry's tables: made once by whoever comes first, and a failure to reach them is one line."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from mlflow.protos import databricks_pb2
from sqlalchemy.exc import DBAPIError

from infra.registry.connection import _translated
from infra.registry.mlflow import MlflowRegistry
from infra.sql.database import open_sqlite, parse_url
from schemas.errors import ConfigurationError, Unavailable
from tests.infra.registry.test_registry import ROOT, adapter

REGISTERS = """
import json, os, sys
from pathlib import Path
from datetime import UTC, datetime
from infra.registry import connection as mlflow_connection
from infra.registry.mlflow import MlflowRegistry
from schemas.registry import AdapterRecord

def register(mine):
    registry = MlflowRegistry(url, folder)
    registry.prepare()
    for number in range(5):
        for name in (f"{mine}-{number}", f"all-{number}"):
            record = AdapterRecord(adapter_id=name, task="routing", base_model="b", dataset_id="d", run_id=name,
                                   size_bytes=1, created_at=datetime.now(UTC))
            registry.register(record)
            registry.log_training(record, {"rank": 8}, {"loss": 1.0})
            registry.judge(name, state="validated", scores={"em": 1.0}, reasons=(), report_uri=None)
            registry.set_aliases("routing", champion=name, challenger=None)
            assert registry.find(name).state == "validated"
    print(json.dumps(len(registry.adapters())), flush=True)

url, folder = sys.argv[1], Path(sys.argv[2])
mlflow_connection._mlflow()  # once for all of them: it takes longer than what they do with it
started = []
for name in sys.argv[3:]:
    if not (pid := os.fork()):
        register(name)
        sys.exit(0)
    started.append(pid)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in started))
"""


def test_several_processes_create_the_tables_and_write_at_once(tmp_path):
    url, folder = f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "registry"
    command = [sys.executable, "-c", REGISTERS, url, str(folder), "one", "two", "three"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    registry = MlflowRegistry(url, folder)
    records = registry.adapters("routing")
    assert sorted(each.version for each in records) == list(range(1, 21))
    assert len({each.adapter_id for each in records}) == 20
    assert [each.aliases for each in records].count(("champion",)) == 1
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert (len(said), max(said)) == (3, 20)


def test_without_tables_it_says_at_once_how_to_make_them(tmp_path):
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "registry")
    with pytest.raises(Unavailable, match="has no tables yet: run 'everlearn up'"):
        registry.adapters()
    open_sqlite(str(tmp_path / "registry.db"), mode="rwc").close()
    with pytest.raises(Unavailable, match="has no tables yet"):
        registry.models()
    assert not (tmp_path / "mlruns").exists()


def test_a_server_that_cannot_be_reached_is_named_without_its_password(tmp_path):
    registry = MlflowRegistry("postgresql://me:secret@127.0.0.1:9/none", tmp_path)
    for action in (registry.prepare, registry.adapters):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9") as caught:
            action()
        assert "secret" not in str(caught.value)
        assert "[registry] url" in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://u@h/d", "nonsense", "sqlite:///:memory:"])
def test_a_url_that_does_not_serve_is_a_fault_of_the_configuration(tmp_path, url):
    with pytest.raises(ConfigurationError, match=r"\[registry\] url"):
        MlflowRegistry(url, tmp_path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'file' / 'registry.db'}", tmp_path / "registry")
    with pytest.raises(ConfigurationError, match="cannot be opened or created"):
        registry.prepare()
    with pytest.raises(Unavailable, match="cannot be written"):
        MlflowRegistry(f"sqlite:///{tmp_path / 'r.db'}", tmp_path / "file" / "x").prepare()


def test_importing_it_imports_no_mlflow():
    script = "import sys, infra.registry.mlflow; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_many_threads_may_be_the_first_to_use_it(tmp_path, registry_in):
    registry = registry_in(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(registry.find, "a") for _ in range(4)]
        written = [pool.submit(registry.register, adapter("t", letter)) for letter in "abcd"]
        assert all(each.result(timeout=60) is None for each in found)
        assert sorted(each.result(timeout=60).version for each in written) == [1, 2, 3, 4]


def _sql_error(kind, error, module=sqlite3.Error):
    return DBAPIError.instance("INSERT", {}, kind(error), module)


def _mlflow_error(code, cause):
    from mlflow.exceptions import MlflowException

    error = MlflowException(str(cause), error_code=getattr(databricks_pb2, code))
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")
MALFORMED = _sql_error(sqlite3.DatabaseError, "database disk image is malformed")
READ_ONLY = _sql_error(psycopg.errors.ReadOnlySqlTransaction, "cannot execute INSERT", psycopg.Error)
TOO_BIG = _sql_error(sqlite3.DataError, "string or blob too big")


@pytest.mark.parametrize(
    "error",
    [
        _mlflow_error(
            "TEMPORARILY_UNAVAILABLE", _sql_error(sqlite3.OperationalError, "database or disk is full")
        ),
        _mlflow_error("BAD_REQUEST", MALFORMED),
        _mlflow_error("BAD_REQUEST", READ_ONLY),
        _mlflow_error("INTERNAL_ERROR", FULL),
        _mlflow_error("REQUEST_LIMIT_EXCEEDED", RuntimeError("slow down")),
        MALFORMED,
    ],
    ids=str,
)  # fmt: skip
def test_a_store_that_failed_is_unavailable(error):
    with pytest.raises(Unavailable, match="check that it runs") as caught:
        _translated(parse_url("sqlite:////data/registry.db"), lambda: _raise(error))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        _mlflow_error("INVALID_PARAMETER_VALUE", ValueError("a name must not hold /")),
        _mlflow_error("RESOURCE_DOES_NOT_EXIST", ValueError("no such model")),
        _mlflow_error("BAD_REQUEST", TOO_BIG),
        TOO_BIG,
    ],
    ids=str,
)
def test_a_request_that_the_store_refuses_each_time_is_not(error):
    with pytest.raises(type(error)):
        _translated(parse_url("sqlite:////data/registry.db"), lambda: _raise(error))


def _raise(error):
    raise error


def _register_many(registry):
    for number in range(1000):
        registry.register(adapter("disk", str(number)))


def test_a_registry_on_a_full_disk_is_unavailable_until_there_is_room(registry_in, small_disk):
    registry = registry_in(small_disk.folder)
    registry.register(adapter("disk", "before"))
    small_disk.fill()
    with pytest.raises(Unavailable, match=r"full|disk I/O error"):
        _register_many(registry)
    small_disk.make_room()
    registry.register(adapter("disk", "after"))
    assert {"disk-before", "disk-after"} <= {record.adapter_id for record in registry.adapters()}


def test_tables_of_another_version_of_mlflow_are_unavailable_and_say_what_to_do():
    error = _mlflow_error("INTERNAL_ERROR", ValueError("Detected out-of-date database schema (found 1, expected 2)"))
    with pytest.raises(Unavailable, match="of another version of MLflow: run 'everlearn up'"):
        _translated(parse_url("sqlite:////data/registry.db"), lambda: _raise(error))
