"""The quantizer's parts: none in this process; registry and models are opened in its runs' processes."""

from __future__ import annotations

import structlog

from agents.delivery.worker import RunKind, Worker
from agents.quantizer.agent import AGENT, KIND, Quantizer
from agents.wiring.children import place
from infra.settings import Settings

log = structlog.get_logger()


def build(settings: Settings) -> Worker:
    """A worker that loads nothing."""
    schemes, where = settings.quantizer.schemes, place(settings)
    quantizer = Quantizer(schemes=schemes, where=where, notice=lambda about: log.warning("not quantized", **about))
    kind = RunKind(name=KIND, entry="agents.wiring.quantizing:run", done=quantizer.done, failed=quantizer.failed)
    return Worker(agent=AGENT, topics=("models.v1",), handlers=quantizer.handlers(), runs=(kind,))
