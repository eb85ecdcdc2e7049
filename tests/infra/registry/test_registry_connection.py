"""The registry's tables: made once by whoever comes first, and a failure to reach them is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.registry.mlflow import MlflowRegistry
from infra.sql.database import open_sqlite
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
