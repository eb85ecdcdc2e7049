"""Starts and stops the embedded stack of a home folder: Kafka, Milvus and the agents, in their order."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from infra.disks import MEGABYTE, scarce_disks
from infra.kafka import create_topics, kafka_connection
from infra.kafka.fleet import Fleet, alive, silence_bound
from infra.local import kafka
from infra.local.endpoints import forget_endpoints, read_endpoints, write_endpoints
from infra.local.free_port import claim_port, free_port
from infra.local.locks import try_lock
from infra.local.milvus_lite import program as milvus
from infra.local.programs import NEED_REGISTRY, PRELOADED, SLOWEST, WorkerProcess, agent_program, service_program
from infra.local.supervisor import Supervisor
from infra.local.supervisord_conf import Program
from infra.private_files import make_private
from infra.progress import Progress
from infra.settings import Settings
from schemas.errors import ConfigurationError, Unavailable
from schemas.kafka import KafkaConnection
from schemas.policies import EMBEDDED

KAFKA_PORT = 9092
MILVUS_PORT = 19530
SERVICE_SECONDS = 90.0
READY_SECONDS = 300.0
CHECK_SECONDS = 0.5
"""Seconds between two checks for dead processes. Each check takes time from the processes that are starting."""
DEATHS = 2
"""A process that dies more often than this while the stack starts will not come up."""
NEEDED_MB = 300
"""The disk space that an empty stack needs at its start and soon after, with some reserve; without the models."""

StartStage = Callable[[str], None]
"""Called with the name of a part of the stack once it has started."""


class DidNotStart(Unavailable):
    """A process of the stack does not start."""

    def __init__(self, process: str, what: str, last_lines: list[str], log: Path) -> None:
        reason = last_lines[-1].removeprefix("error: ")[:400] if last_lines else "its log is empty"
        super().__init__(f"{process} {what}: {reason} (see {log})")
        self.process = process
        self.last_lines = last_lines


def stop_seconds(settings: Settings) -> float:
    """How long everything may take to stop: the agents, then the services."""
    return settings.worker.shutdown_seconds + 5.0 + 20.0 + 10.0


class Stack:
    """The processes of one home folder. Call ``prepare``, ``start`` and ``await_agents``; in any case ``stop``."""

    def __init__(self, settings: Settings, workers: Sequence[WorkerProcess]) -> None:
        self.settings = settings
        self.workers = list(workers)
        self.supervisor = Supervisor(settings.run_folder)
        self._began = datetime.now(UTC)
        self._claims: list[IO[str]] = []

    def claim(self) -> IO[str]:
        """Takes the lock of the home's only stack. Raises ConfigurationError when another stack holds it."""
        for _ in range(5):
            # A process that asks whether a stack runs holds the lock for a moment.
            if (lock := try_lock(self.settings.run_folder / "lock")) is not None:
                return lock
            time.sleep(0.02)
        raise ConfigurationError(
            f"a stack runs in {self.settings.home} already: 'everlearn status' shows it, 'everlearn down' stops it"
        )

    def prepare(self, progress: Progress) -> None:
        """Downloads Kafka's jars and converts the base model and the embedding model, once."""
        require_space(self.settings.home)
        if self.settings.kafka.bootstrap_servers == EMBEDDED:
            kafka.prepare(kafka_cache(self.settings), progress)
        from infra.embedding import embedder
        from infra.models import loading as models

        models.prepare(self.settings, progress)
        embedder.prepare(self.settings, progress)

    def start(self, lock: IO[str], stage: StartStage) -> None:
        """Starts everything, and returns when the agents' processes run. Raises Unavailable with the reason."""
        make_private(self.settings.home, shared=[self.settings.models_folder])
        forget_endpoints(self.settings)
        services, ports = self._services()
        agents = {worker: agent_program(self.settings, worker) for worker in self.workers}
        self.supervisor.launch([*services.values(), *agents.values()], lock, self._claims)
        for program in services.values():
            self.supervisor.start(program)
        self.supervisor.preload(PRELOADED)
        # MLflow takes seconds to create its tables the first time. Kafka starts at the same time.
        beside = ThreadPoolExecutor(1, "registry")
        registry = beside.submit(prepare_registry, self.settings)
        beside.shutdown(wait=False)  # an error elsewhere is raised at once
        from infra.sql.migrate import migrate

        migrate(self.settings.sql_url())
        stage("SQL")
        if "kafka" in services:
            self._await("kafka", lambda: kafka.accepts(ports["kafka"], 0.0))
        create_topics(self._kafka(ports))
        stage("Kafka")
        write_endpoints(self.settings, ports)
        # Milvus may still be loading. An agent that needs it waits for it.
        for worker in sorted(self.workers, key=lambda each: each.agent != SLOWEST):
            if worker.agent not in NEED_REGISTRY:
                self.supervisor.start(agents[worker])
        with self._watched(set()) as check:
            while not registry.done():
                check()
                time.sleep(0.1)
        registry.result()
        stage("registry")
        for worker in self.workers:
            if worker.agent in NEED_REGISTRY:
                self.supervisor.start(agents[worker])
        if "milvus" in services:
            self._await("milvus", lambda: milvus.ready(ports["milvus"], 0.0))
            stage("Milvus")

    def await_agents(self, stage: StartStage) -> None:
        """Returns when all workers are ready at the same time. A worker whose reports have stopped is not ready."""
        wanted, announced = {worker.name for worker in self.workers}, set[str]()
        silence = silence_bound(self.settings.worker.heartbeat_seconds)
        deadline = time.monotonic() + READY_SECONDS
        with ExitStack() as opened, self._watched({*wanted, "kafka", "milvus"}) as check:
            fleet: Fleet | None = None
            while True:
                try:
                    fleet = fleet or opened.enter_context(Fleet(kafka_connection(self.settings)))
                    known = fleet.reports(wait_seconds=0.2)
                except Unavailable:  # Kafka is busy; ``check`` notices when it has died
                    known = {}
                reports = alive(known, now=datetime.now(UTC), silence=silence / 2)
                ready = {
                    name
                    for name, report in reports.items()
                    if name in wanted and report.time >= self._began and report.worker.state == "ready"
                }
                for name in sorted(ready - announced):
                    stage(name)
                announced |= ready
                if ready == wanted:
                    return
                check()
                if time.monotonic() > deadline:
                    raise self._failure(min(wanted - ready), f"is not ready after {READY_SECONDS:.0f} s")

    def stop(self) -> None:
        """Stops everything that runs. Does nothing when nothing runs."""
        self.supervisor.stop(stop_seconds(self.settings), lambda: forget_endpoints(self.settings))

    def _services(self) -> tuple[dict[str, Program], dict[str, int]]:
        settings, ports, programs = self.settings, {}, {}
        if settings.kafka.bootstrap_servers == EMBEDDED:
            ports["kafka"] = self._claimed(KAFKA_PORT)
            broker = kafka.Broker(
                cache=kafka_cache(settings),
                data=settings.home / "kafka",
                run=settings.run_folder,
                port=ports["kafka"],
                controller_port=free_port(),
            )
            kafka.configure(broker)
            programs["kafka"] = service_program("kafka", kafka.command(broker))
        if settings.milvus.uri == EMBEDDED:
            ports["milvus"] = self._claimed(MILVUS_PORT)
            programs["milvus"] = service_program("milvus", milvus.command(settings.home / "milvus", ports["milvus"]))
        return programs, ports

    def _claimed(self, usual: int) -> int:
        port, claim = claim_port(usual)
        self._claims += [claim] if claim is not None else []
        return port

    def _kafka(self, ports: dict[str, int]) -> KafkaConnection:
        if "kafka" in ports:
            return KafkaConnection(bootstrap_servers=f"127.0.0.1:{ports['kafka']}")
        return kafka_connection(self.settings)

    def _await(self, name: str, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SERVICE_SECONDS
        with self._watched({name}) as check:
            while not answers():
                check()
                if time.monotonic() > deadline:
                    raise self._failure(name, f"does not answer after {SERVICE_SECONDS:.0f} s")
                time.sleep(0.1)

    @contextmanager
    def _watched(self, names: set[str]) -> Iterator[Callable[[], None]]:
        """A check that raises when one of these processes died too often, or any process is configured wrongly."""
        seen: dict[str, set[int]] = {}
        due = 0.0

        def check() -> None:
            nonlocal due
            if time.monotonic() < due:
                return
            due = time.monotonic() + CHECK_SECONDS
            for name, code in self.supervisor.exit_codes().items():
                if code == os.EX_CONFIG:
                    raise self._failure(name, "is configured wrongly")
            for process in self.supervisor.processes():
                if process.name in names and process.pid is not None:
                    seen.setdefault(process.name, set()).add(process.pid)
                    if len(seen[process.name]) > DEATHS:
                        raise self._failure(process.name, "does not come up")

        yield check

    def _failure(self, name: str, what: str) -> DidNotStart:
        if full := [str(disk) for disk in scarce_disks(self.settings) if disk.full]:
            what = f"{what} ({'; '.join(full)})"
        return DidNotStart(name, what, self.supervisor.last_lines(name), self.supervisor.log(name))

    def endpoints(self) -> dict[str, str]:
        """The addresses of Kafka and Milvus."""
        return read_endpoints(self.settings)


def prepare_registry(settings: Settings) -> None:
    """Creates the registry's tables unless they exist. Raises Unavailable or ConfigurationError."""
    from infra.registry.mlflow import MlflowRegistry

    MlflowRegistry(settings.registry_url(), settings.registry_folder).prepare()


def require_space(folder: Path, needed_mb: int = NEEDED_MB) -> None:
    """Raises ConfigurationError when the disk is nearly full: Kafka and SQLite would fail without saying why."""
    free_mb = shutil.disk_usage(folder).free // MEGABYTE
    if free_mb < needed_mb:
        raise ConfigurationError(
            f"the disk of {folder} has {free_mb} MB left and the stack needs {needed_mb}: "
            "make room, or choose another folder with --home"
        )


def kafka_cache(settings: Settings) -> Path:
    """The folder of Kafka's jars, beside the models, because several homes may share both."""
    return settings.models_folder / "kafka"
