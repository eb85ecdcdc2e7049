"""Runs an agent's worker in this process."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import sys

import structlog

from infra.settings import Settings
from schemas.errors import Misuse

AGENTS = ("indexer", "loader", "answerer", "recorder", "monitor", "trainer", "validator", "promoter", "quantizer")
"""The agents that exist, in the order in which they are started."""


def run_agent(agent: str, settings: Settings, worker: str | None = None) -> int:
    """Blocks until SIGTERM or SIGINT; returns the exit code. ``worker``: a name that no other running worker has."""
    if agent not in AGENTS:
        raise Misuse(f"there is no agent {agent!r}: choose from {', '.join(AGENTS)}")
    # Read when torch is loaded, here and in the processes of runs. Threads that spin for long while they wait for each
    # other make a model half as fast whenever another worker is busy too; ones that never do slow a training by 15 %.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    configure_logging()
    # imported here: a worker pays for its own agent's libraries and no other's
    from agents.delivery.lifecycle import run_worker
    from agents.wiring.platform import parts

    wiring = importlib.import_module(f"agents.wiring.{agent}")
    # Here, before any thread is there: on Linux a niceness is the calling thread's, and new threads inherit it.
    os.nice(getattr(wiring, "NICENESS", 0))
    name = worker or f"{agent}-{socket.gethostname()}-{os.getpid()}"
    # The loop is left open: to close it would be to wait for a model that is being loaded by a worker told to stop.
    code = asyncio.new_event_loop().run_until_complete(
        run_worker(agent, lambda: wiring.build(settings), parts(settings), name, instance=worker)
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a broken consumer must not keep a stopped worker alive


def configure_logging() -> None:
    """Structured lines on stderr; Faust's and aiokafka's only from warnings up."""
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
