"""The promoter's handlers: validated adapters, requests by hand and what users say become releases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial

from agents.delivery.outcome import NOTHING, Outcome, Output
from agents.promoter.aliases import ReleaseAliases
from agents.promoter.controller import ReleaseController
from agents.promoter.ports import AdapterLookup, Log
from schemas.documents import IndexRebuildRequested
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from schemas.learning import (
    AdapterRejected,
    AdapterValidated,
    DriftCheckRequested,
    ExperimentRequested,
    PromotionRequested,
    RollbackRequested,
    TrainingRequested,
)

ReleaseDecision = Callable[[], Sequence[Output]]
Requested = AdapterValidated | PromotionRequested | RollbackRequested | ExperimentRequested
BY_HAND = "asked for by hand"


class Promoter:
    """Reacts to events and ticks; the controller decides, inside the transaction."""

    def __init__(
        self, *, controller: ReleaseController, adapters: AdapterLookup, aliases: ReleaseAliases, log: Log
    ) -> None:
        self._controller, self._adapters, self._aliases, self._log = controller, adapters, aliases, log

    async def handle(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """Canaries are judged once a batch, at its last interaction, however many there are."""
        asked = {each.event.task for each in batch if isinstance(each.event, Requested)}
        seen = {each.event.task for each in batch if isinstance(each.event, InteractionRecorded) and each.event.task}
        places = [place for place, each in enumerate(batch) if isinstance(each.event, InteractionRecorded)]
        outcomes = []
        for place, received in enumerate(batch):
            if isinstance(received.event, InteractionRecorded):
                last = seen and place == places[-1]
                decide: ReleaseDecision | None = (
                    partial(self._controller.evaluate, seen, received.identity) if last else None
                )
            else:
                decide = await self._decision(received.event, received.identity)
            outcomes.append(self._outcome(decide, asked | seen if asked else ()) if decide else NOTHING)
        return outcomes

    async def look(self, scheduled: datetime) -> Outcome:
        """A tick: canaries whose time is over, or whose last ratings came in without another interaction."""
        return self._outcome(lambda: self._controller.evaluate(None, f"tick {scheduled.isoformat()}"))

    async def set_aliases(self, scheduled: datetime) -> Outcome:
        """A tick: the registry learns what was released."""
        return Outcome(after=lambda: self._aliases.follow(scheduled))

    async def _decision(self, event: Event, cause: str) -> ReleaseDecision | None:
        controller = self._controller
        if isinstance(event, AdapterValidated):
            return lambda: controller.consider(event.task, event.adapter_id, cause)
        if isinstance(event, AdapterRejected):
            self._log("adapter was rejected", task=event.task, adapter=event.adapter_id, reasons=list(event.reasons))
            return None
        if isinstance(event, PromotionRequested):
            await asyncio.to_thread(self._require_validated, event.task, event.adapter_id)
            return lambda: controller.promote(event.task, event.adapter_id, event.reason or BY_HAND, cause)
        if isinstance(event, ExperimentRequested):
            await asyncio.to_thread(self._require_validated, event.task, event.adapter_id)
            return lambda: controller.experiment(event.task, event.adapter_id, event.share, cause)
        if isinstance(event, RollbackRequested):
            return lambda: controller.roll_back(event.task, event.reason or BY_HAND, cause)
        if isinstance(event, TrainingRequested | DriftCheckRequested | IndexRebuildRequested):
            return None  # for others who read the same topic
        raise InvalidEvent(f"the promoter does not read {event.type}: send it to the topic it belongs to")

    def _outcome(self, decide: ReleaseDecision, tasks: Collection[str] = ()) -> Outcome:
        """``tasks``: all that the batch may change, locked together before the first of them is changed."""

        def effect() -> Sequence[Output]:
            if tasks:
                self._controller.lock(tasks)
            return decide()

        return Outcome(effect=effect)

    def _require_validated(self, task: str, adapter_id: str) -> None:
        record = self._adapters.find(adapter_id)
        if record is None or record.task != task:
            raise InvalidEvent(f"the registry knows no adapter {adapter_id} of {task}: see 'everlearn adapters list'")
        if record.state == "rejected":
            raise InvalidEvent(f"{adapter_id} was rejected ({'; '.join(record.reasons)}): promote another adapter")
        if record.state != "validated":
            raise InvalidEvent(f"{adapter_id} is not validated yet: ask again when it is")
