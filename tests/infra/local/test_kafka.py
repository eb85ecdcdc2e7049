"""The embedded broker: what it survives, what it takes, and where it writes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.kafka import RecordPublisher, create_topics, read_all
from infra.local import jars, kafka
from infra.local.free_port import free_port
from schemas.envelope import Record
from schemas.errors import ConfigurationError, Unavailable
from schemas.topics import TopicSettings
from tests.fixtures.kafka import CACHE, PrivateBroker, prepared

Brokers = Callable[[], PrivateBroker]
TOPIC = TopicSettings(name="t", partitions=1, compacted=False, retention_days=1)


def publish(broker: PrivateBroker, *values: bytes) -> None:
    with RecordPublisher(broker.config) as publisher:
        publisher.publish([Record(topic="t", key=b"k", value=value, headers=()) for value in values])


def values(broker: PrivateBroker) -> list[bytes | None]:
    return [record.value for record in read_all(broker.config, ["t"])]


def test_confirmed_records_survive_sigkill_and_a_restart_on_other_ports_of_loopback(kafka_broker: Brokers):
    broker = kafka_broker()
    create_topics(broker.config, [TOPIC])
    publish(broker, b"1", b"2")
    broker.kill()
    broker.broker = dataclasses.replace(broker.broker, port=free_port(), controller_port=free_port())
    broker.start()
    publish(broker, b"3")
    assert values(broker) == [b"1", b"2", b"3"]
    _listens_on_loopback_only(broker)
    broker.stop()
    assert {each.name for each in broker.broker.run.iterdir()} == {"kafka.log", "kafka.pid", "kafka.properties"}
    log = (broker.broker.run / "kafka.log").read_text()
    assert log.count("Kafka Server started") == 2
    assert "WARNING" not in log, "the virtual machine complains of nothing"


def _listens_on_loopback_only(broker: PrivateBroker) -> None:
    wanted = {broker.broker.port, broker.broker.controller_port}
    rows = [
        line.split()[1:4] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    hosts = {
        local.rpartition(":")[0]
        for local, _, state in rows
        if state == "0A" and int(local.rpartition(":")[2], 16) in wanted
    }
    assert hosts <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert hosts


def test_a_data_folder_of_any_name_will_do(tmp_path: Path):
    prepared()
    broker = PrivateBroker(tmp_path / "with space ;and #marks" / "größe" / "back\\slash" / "per%cent")
    try:
        broker.start()
        create_topics(broker.config, [TOPIC])
        publish(broker, b"1")
        broker.stop()
        broker.start()
        assert values(broker) == [b"1"]
    finally:
        broker.kill()


def test_a_folder_that_kafka_cannot_name_is_refused(tmp_path: Path):
    broker = PrivateBroker(tmp_path / "a,b")
    with pytest.raises(ConfigurationError, match="holds a comma"):
        kafka.configure(broker.broker)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        kafka.configure(PrivateBroker(tmp_path / "file").broker)


@pytest.mark.parametrize("damage", ["truncated", "changed", "unproved"])
def test_a_damaged_archive_is_not_used(tmp_path: Path, damage: str):
    cache = _copied(tmp_path / "cache")
    archive = next(cache.glob("*.aot"))
    if damage == "truncated":
        os.truncate(archive, 1_000_000)
    elif damage == "changed":
        with archive.open("r+b") as file:
            file.seek(archive.stat().st_size // 2)
            file.write(os.urandom(100_000))
    else:
        archive.with_suffix(".sha256").unlink()
    broker = dataclasses.replace(PrivateBroker(tmp_path).broker, cache=cache)
    assert not any("AOTCache" in each for each in kafka.command(broker))


def test_an_intact_archive_is_used(tmp_path: Path):
    cache = _copied(tmp_path / "cache")
    broker = dataclasses.replace(PrivateBroker(tmp_path).broker, cache=cache)
    assert any("AOTCache" in each for each in kafka.command(broker))


def test_two_processes_may_prepare_the_same_cache_at_once(tmp_path: Path):
    prepared()
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copytree(CACHE / f"kafka-{jars.KAFKA_VERSION}", cache / f"kafka-{jars.KAFKA_VERSION}")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=kafka.prepare, args=(cache,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(cache.glob("*.aot"))) == 1
    assert [each.name for each in cache.iterdir() if each.name.startswith("training-")] == []


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=r"^Kafka's jars cannot be fetched .*check the network.*\[kafka\]"):
        jars.fetch_jars(tmp_path / "cache")
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["kafka.lock"]


def test_an_unfetched_cache_is_named(tmp_path: Path):
    broker = dataclasses.replace(PrivateBroker(tmp_path).broker, cache=tmp_path)
    with pytest.raises(ConfigurationError, match="Kafka is not in"):
        kafka.command(broker)


def test_the_digest_notices_any_change(tmp_path: Path):
    for name in ("a.jar", "b.jar"):
        (tmp_path / name).write_text(name)
    before = jars.digest(tmp_path.iterdir())
    (tmp_path / "b.jar").write_text("changed")
    changed = jars.digest(tmp_path.iterdir())
    (tmp_path / "b.jar").rename(tmp_path / "c.jar")
    assert len({before, changed, jars.digest(tmp_path.iterdir())}) == 3


def test_it_dies_with_whoever_started_it(tmp_path: Path):
    prepared()
    code = (
        "import sys; from pathlib import Path; from tests.fixtures.kafka import PrivateBroker;"
        "b = PrivateBroker(Path(sys.argv[1])); b.start(); print(b.broker.port, flush=True); input()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with starter:
        assert starter.stdout is not None
        port = int(starter.stdout.readline())
        assert kafka.accepts(port, 5.0)
        starter.send_signal(signal.SIGKILL)
    assert not kafka.accepts(port, 0.5)


def _copied(cache: Path) -> Path:
    """A cache whose archive claims to be made for it: its name is that of the folder's own archive."""
    prepared()
    shutil.copytree(CACHE, cache, ignore=shutil.ignore_patterns("*.aot", "*.sha256"))
    source = next(CACHE.glob("*.aot"))
    named = kafka.archive_path(cache)
    shutil.copy(source, named)
    shutil.copy(source.with_suffix(".sha256"), named.with_suffix(".sha256"))
    return cache
