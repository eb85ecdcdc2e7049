"""Runs an agent's worker in this process."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import sys
import time

import structlog

from agents.delivery.lossy_stream import LossyStream
from infra.settings import Settings
from schemas.errors import Misuse

STARTING_SECONDS = 60.0
"""A worker that starts together with its broker has to wait so long for it at most."""
AGENTS = ("indexer", "loader", "answerer", "recorder", "monitor", "trainer", "validator", "promoter", "quantizer")
"""The agents that exist, in the order in which they are started."""


def run_agent(agent: str, settings: Settings, worker: str | None = None) -> int:
    """Runs a worker until SIGTERM or SIGINT, then exits. ``worker``: a name that no other running worker has."""
    if agent not in AGENTS:
        raise Misuse(f"there is no agent {agent!r}: choose from {', '.join(AGENTS)}")
    # OpenMP reads it when torch is loaded, here and in the processes of runs. With long spinning a model is half as
    # fast whenever another worker is busy too; without spinning a training is 15 % slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.stdout, sys.stderr = LossyStream(sys.stdout), LossyStream(sys.stderr)
    configure_logging()
    # Imported here, so that a worker loads only its own agent's libraries.
    from agents.delivery.lifecycle import run_worker
    from agents.wiring.platform import parts

    wiring = importlib.import_module(f"agents.wiring.{agent}")
    # Set before any thread exists: on Linux the niceness belongs to the calling thread, and new threads inherit it.
    os.nice(getattr(wiring, "NICENESS", 0))
    name = worker or f"{agent}-{socket.gethostname()}-{os.getpid()}"
    # The loop is not closed: that would wait for a model that is still being loaded when the worker must stop.
    code = asyncio.new_event_loop().run_until_complete(
        run_worker(agent, lambda: wiring.build(settings), parts(settings), name, instance=worker)
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a broken consumer must not keep a stopped worker alive


def configure_logging() -> None:
    """Logs structured lines on stderr, and Faust's and aiokafka's lines from warnings up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # Its one warning comes with the import, on processors that multiply bfloat16: it has faster code for 4-bit models,
    # in a package "kernels" that loads programs from the network. Nothing here needs it.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(NewBroker(time.time()))


class NewBroker(logging.Filter):
    """Drops what aiokafka logs as an error while a new broker makes its topic of offsets; aiokafka just asks again.

    After ``STARTING_SECONDS`` the same error means that the broker has a problem.
    """

    def __init__(self, started_at: float) -> None:
        super().__init__()
        self._until = started_at + STARTING_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        return record.created > self._until or "GroupCoordinatorNotAvailableError" not in record.getMessage()
