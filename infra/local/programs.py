"""The processes of the embedded stack as programs of its supervisor, and what their start has to know of them."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

from infra.local.supervisord_conf import SERVICES, Program
from infra.settings import Settings

SHARED = ("agents.cli.stack", "agents.delivery.lifecycle", "agents.wiring.platform", "agents.wiring.run")
"""What all workers import, and that starts no thread."""
SLOWEST = "answerer"
"""It loads a model of language: started first, it is ready with the others."""
NEED_REGISTRY = frozenset({"trainer", "validator", "promoter", "quantizer"})


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A process of an agent to start. ``name`` is its own, in the fleet and in its consumer group."""

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
    # A service closes its files on SIGTERM, also when the supervisor was killed.
    return Program(
        name=name, command=command, group=SERVICES, stop_seconds=20.0, settled_seconds=5.0, death=signal.SIGTERM
    )
