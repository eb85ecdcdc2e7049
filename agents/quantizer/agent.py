"""The quantizer's handler: a registered model becomes a run for each scheme, and each run's end a fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agents.delivery.outcome import NOTHING, Outcome, Output, RunRequest
from agents.delivery.worker import Handlers
from agents.quantizer.ports import Notice
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.models import ModelQuantized, ModelRegistered, unknown_schemes

AGENT: Final = "quantizer"
KIND: Final = "quantize"


class Quantizer:
    """Asks for runs and tells what came of them. The registry is looked at in a run's process, which is short-lived."""

    def __init__(self, *, schemes: Sequence[str], where: Mapping[str, Any], notice: Notice) -> None:
        """``schemes``: what is wanted where an event does not say. ``where``: goes along with every run.

        ``notice``: told of what was not made, for which there is no event.
        """
        self._schemes, self._where, self._notice = tuple(schemes), dict(where), notice

    def handlers(self) -> Handlers:
        return {ModelRegistered: self.quantize}

    async def quantize(self, received: Received[ModelRegistered]) -> Outcome:
        event = received.event
        wanted = tuple(dict.fromkeys(self._schemes if event.quantize is None else event.quantize))
        if event.scheme is not None or not wanted:
            return NOTHING
        if reason := unknown_schemes(wanted):
            raise InvalidEvent(f"{event.name} cannot be quantized: {reason}")
        if not event.version.isdecimal():
            raise InvalidEvent(f"version {event.version!r} of {event.name} is no number: give one of the registry's")
        about = {**self._where, "name": event.name, "version": int(event.version)}
        return Outcome(runs=[RunRequest(kind=KIND, arguments={**about, "scheme": scheme}) for scheme in wanted])

    def done(self, claim: Claim, result: dict[str, Any]) -> Outcome:
        """The fact, where there is a new one; why there is none stands in the run's result."""
        quantized = result.get("quantized")
        if quantized is None:
            return self.failed(claim, str(result.get("reason")))
        return Outcome(outputs=(Output(event=ModelQuantized.model_validate(quantized)),))

    def failed(self, claim: Claim, reason: str) -> Outcome:
        about = {name: str(claim.arguments.get(name)) for name in ("name", "version", "scheme")}
        self._notice({"run": claim.run_id, "reason": reason, **about})
        return NOTHING
