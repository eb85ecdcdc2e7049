"""Turns a registered model into one run for each scheme, and the end of a run into an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agents.delivery.outcome import NOTHING, Outcome, Output, RunRequest
from agents.delivery.worker import Handlers
from agents.quantizer.ports import Notice
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.event import JsonObject
from schemas.models import ModelQuantized, ModelRegistered, unknown_schemes

KIND: Final = "quantize"


class Quantizer:
    """Requests runs and reports their results. Only the child process of a run reads the registry."""

    def __init__(self, *, schemes: Sequence[str], settings_location: Mapping[str, Any], notice: Notice) -> None:
        """``schemes``: those of a model whose event names none. ``settings_location``: for every run.

        ``notice`` gets the reason when no quantized model was made: there is no event for that.
        """
        self._schemes, self._settings_location, self._notice = tuple(schemes), dict(settings_location), notice

    def handlers(self) -> Handlers:
        return {ModelRegistered: self.quantize}

    async def quantize(self, received: Received[ModelRegistered]) -> Outcome:
        """Requests one run for each scheme. Raises InvalidEvent for a wrong scheme or version."""
        event = received.event
        wanted = tuple(dict.fromkeys(self._schemes if event.quantize is None else event.quantize))
        if event.scheme is not None or not wanted:
            return NOTHING
        if reason := unknown_schemes(wanted):
            raise InvalidEvent(f"{event.name} cannot be quantized: {reason}")
        if not event.version.isdecimal():
            raise InvalidEvent(
                f"version {event.version!r} of {event.name} is not a number: give a version from the registry"
            )
        about = {**self._settings_location, "name": event.name, "version": int(event.version)}
        return Outcome(runs=[RunRequest(kind=KIND, arguments={**about, "scheme": scheme}) for scheme in wanted])

    def done(self, claim: Claim, result: JsonObject) -> Outcome:
        """Reports the quantized model, if the run made one. Otherwise the result holds the reason."""
        quantized = result.get("quantized")
        if quantized is None:
            return self.failed(claim, str(result.get("reason")))
        return Outcome(outputs=(Output(event=ModelQuantized.model_validate(quantized)),))

    def failed(self, claim: Claim, reason: str) -> Outcome:
        """Logs why a run made no model."""
        about = {name: str(claim.arguments.get(name)) for name in ("name", "version", "scheme")}
        self._notice({"run": claim.run_id, "reason": reason, **about})
        return NOTHING
