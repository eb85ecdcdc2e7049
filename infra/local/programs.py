"""Describes the processes of the embedded stack as programs of supervisord."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

from infra.local.supervisord_conf import SERVICES, Program
from infra.settings import Settings

PRELOADED = ("agents.cli.stack", "agents.delivery.lifecycle", "agents.wiring.platform", "agents.wiring.run")
"""Modules that all workers import and that start no thread, for ``Supervisor.preload``."""
SLOWEST = "answerer"
"""It loads a language model. It is started first, so that it is ready with the others."""
NEED_REGISTRY = frozenset({"trainer", "validator", "promoter", "quantizer"})
"""Agents that are started once the registry's tables exist."""


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A process of an agent to start. Its name is unique in the fleet and in its consumer group."""

    agent: str
    name: str


def workers_of(counts: dict[str, int]) -> list[WorkerProcess]:
    """``{"answerer": 2}`` gives answerer-1 and answerer-2."""
    return [
        WorkerProcess(agent=agent, name=f"{agent}-{number}")
        for agent, count in counts.items()
        for number in range(1, count + 1)
    ]


def agent_program(settings: Settings, worker: WorkerProcess) -> Program:
    """The program of a worker: one process of ``everlearn run``."""
    config = ["--config", str(settings.config.absolute())] if settings.config is not None else []
    place = ["--home", str(settings.home), *config]
    return Program(
        name=worker.name,
        command=[sys.executable, "-m", "agents", *place, "run", worker.agent, "--worker", worker.name, "--no-setup"],
        stop_seconds=settings.worker.shutdown_seconds + 5.0,
    )


def service_program(name: str, command: list[str]) -> Program:
    """The program of Kafka or Milvus."""
    # When supervisord dies, a service gets SIGTERM rather than SIGKILL, so that it closes its files.
    return Program(
        name=name, command=command, group=SERVICES, stop_seconds=20.0, stable_seconds=5.0, death_signal=signal.SIGTERM
    )
