"""The embedded stack of a home folder: which processes it has, in which order they start, and when it is ready."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from infra.kafka import KafkaClientConfig, create_topics
from infra.kafka.fleet import Fleet, alive, silence_bound
from infra.local import kafka
from infra.local.disk_space import require_space
from infra.local.endpoints import forget_endpoints, read_endpoints, write_endpoints
from infra.local.locks import try_lock
from infra.local.milvus_lite import program as milvus
from infra.local.ports import claim_port, free_port
from infra.local.programs import NEED_REGISTRY, SHARED, SLOWEST, WorkerProcess, agent_program, service_program
from infra.local.supervisor import Supervisor
from infra.local.supervisord_conf import Program
from infra.policies import EMBEDDED
from infra.progress import Progress
from infra.settings import Settings
from schemas.errors import ConfigurationError, Unavailable

KAFKA_PORT = 9092
MILVUS_PORT = 19530
SERVICE_SECONDS = 90.0
READY_SECONDS = 300.0
CHECK_SECONDS = 0.5
"""Between two looks at what has died; each takes supervisord's time and ours, while all that starts wants it."""
DEATHS = 2
"""What has died this often while the stack starts will not come up by itself."""

StartStage = Callable[[str], None]
"""Told when a part of the start is done."""


class DidNotStart(Unavailable):
    """A process of the stack does not come up."""

    def __init__(self, process: str, what: str, last_lines: list[str], log: Path) -> None:
        said = last_lines[-1].removeprefix("error: ")[:400] if last_lines else "it says nothing"
        super().__init__(f"{process} {what}: {said} (see {log})")
        self.process = process
        self.last_lines = last_lines


def stop_seconds(settings: Settings) -> float:
    """How long everything may take to stop, agents first and services after them."""
    return settings.worker.shutdown_seconds + 5.0 + 20.0 + 10.0


class Stack:
    """The processes of one home folder. ``start`` then ``wait`` or ``release``; ``stop`` whatever happened."""

    def __init__(self, settings: Settings, workers: Sequence[WorkerProcess]) -> None:
        self.settings = settings
        self.workers = list(workers)
        self.supervisor = Supervisor(settings.run_folder)
        self._began = datetime.now(UTC)
        self._claims: list[IO[str]] = []

    def claim(self) -> IO[str]:
        """The lock that one stack of a home holds; raises ConfigurationError when another one has it."""
        for _ in range(5):
            # Somebody who only asks whether a stack runs holds the lock for a moment.
            if (lock := try_lock(self.settings.run_folder / "lock")) is not None:
                return lock
            time.sleep(0.02)
        raise ConfigurationError(
            f"a stack runs in {self.settings.home} already: 'everlearn status' shows it, 'everlearn down' stops it"
        )

    def prepare(self, progress: Progress) -> None:
        """Fetches and converts what is made once: Kafka's jars, the base model and the embedding model."""
        require_space(self.settings.home)
        if self.settings.kafka.bootstrap_servers == EMBEDDED:
            kafka.prepare(kafka_cache(self.settings), progress)
        from infra.embedding import embedder
        from infra.models import loading as models

        models.prepare(self.settings, progress)
        embedder.prepare(self.settings, progress)

    def start(self, lock: IO[str], stage: StartStage) -> None:
        """Starts everything; returns when the agents have been started. Raises Unavailable with the reason."""
        forget_endpoints(self.settings)
        services, ports = self._services()
        agents = {worker: agent_program(self.settings, worker) for worker in self.workers}
        self.supervisor.launch([*services.values(), *agents.values()], lock, self._claims)
        for program in services.values():
            self.supervisor.start(program)
        self.supervisor.preload(SHARED)
        # MLflow takes seconds to make its tables the first time: Kafka comes up meanwhile.
        beside = ThreadPoolExecutor(1, "registry")
        registry = beside.submit(prepare_registry, self.settings)
        beside.shutdown(wait=False)  # a failure of anything else does not wait for it
        from infra.sql.migrate import migrate

        migrate(self.settings.sql_url())
        stage("SQL")
        if "kafka" in services:
            self._await("kafka", lambda: kafka.accepts(ports["kafka"], 0.0))
        create_topics(self._kafka(ports))
        stage("Kafka")
        write_endpoints(self.settings, ports)
        # Milvus may still be loading: an agent that needs it waits for it.
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
        """Returns when all workers are ready at the same time; one that was, and has fallen silent since, is not."""
        wanted, told = {worker.name for worker in self.workers}, set[str]()
        silence = silence_bound(self.settings.worker.heartbeat_seconds)
        deadline = time.monotonic() + READY_SECONDS
        with ExitStack() as opened, self._watched({*wanted, "kafka", "milvus"}) as check:
            fleet: Fleet | None = None
            while True:
                try:
                    fleet = fleet or opened.enter_context(Fleet(KafkaClientConfig.from_settings(self.settings)))
                    known = fleet.reports(wait_seconds=0.2)
                except Unavailable:  # it has more to do than to answer: while it lives, and there is time, all is well
                    known = {}
                reports = alive(known, now=datetime.now(UTC), silence=silence / 2)
                ready = {
                    name
                    for name, report in reports.items()
                    if name in wanted and report.time >= self._began and report.worker.state == "ready"
                }
                for name in sorted(ready - told):
                    stage(name)
                told |= ready
                if ready == wanted:
                    return
                check()
                if time.monotonic() > deadline:
                    raise self._failure(min(wanted - ready), f"is not ready after {READY_SECONDS:.0f} s")

    def stop(self) -> None:
        """Stops everything that runs; harmless when nothing does."""
        self.supervisor.stop(stop_seconds(self.settings))
        forget_endpoints(self.settings)

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

    def _kafka(self, ports: dict[str, int]) -> KafkaClientConfig:
        if "kafka" in ports:
            return KafkaClientConfig(bootstrap_servers=f"127.0.0.1:{ports['kafka']}")
        return KafkaClientConfig.from_settings(self.settings)

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
        """A check that raises once one of those processes has died too often, or any was configured wrongly."""
        lives: dict[str, set[int]] = {}
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
                    lives.setdefault(process.name, set()).add(process.pid)
                    if len(lives[process.name]) > DEATHS:
                        raise self._failure(process.name, "does not come up")

        yield check

    def _failure(self, name: str, what: str) -> DidNotStart:
        return DidNotStart(name, what, self.supervisor.last_lines(name), self.supervisor.log(name))

    def endpoints(self) -> dict[str, str]:
        """Where Kafka and Milvus are."""
        return read_endpoints(self.settings)


def prepare_registry(settings: Settings) -> None:
    """Creates the registry's tables; quick when they are there. Raises Unavailable or ConfigurationError."""
    from infra.registry.mlflow import MlflowRegistry

    MlflowRegistry(settings.registry_url(), settings.registry_folder).prepare()


def kafka_cache(settings: Settings) -> Path:
    """Where Kafka's jars are kept: beside the models, because several homes may share those."""
    return settings.models_folder / "kafka"
