"""The promoter's handlers: validated adapters, requests and ratings change releases. Ticks watch time limits and set
the registry's aliases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agents.delivery.outcome import NOTHING, Outcome, Output
from agents.delivery.worker import Batch, Handlers
from agents.promoter.controller import ReleaseController
from agents.promoter.ports import AdapterLookup, Aliases, Log, Releases
from agents.promoter.published import PublishedReleases
from schemas.envelope import Received
from schemas.errors import EverlearnError, InvalidEvent
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from schemas.learning import (
    AdapterRejected,
    AdapterValidated,
    ExperimentRequested,
    PromotionRequested,
    RollbackRequested,
)
from schemas.registry import AdapterRecord

ReleaseDecision = Callable[[], Sequence[Output]]
Requested = AdapterValidated | PromotionRequested | RollbackRequested | ExperimentRequested
BY_HAND = "asked for by hand"
SET_AGAIN_AFTER = timedelta(minutes=5)
"""How often all aliases are set again, because somebody else may have changed one."""


class Promoter:
    """Reacts to events and ticks. The controller decides, inside the transaction."""

    def __init__(
        self,
        *,
        controller: ReleaseController,
        adapters: AdapterLookup,
        aliases: ReleaseAliases,
        published: PublishedReleases,
        log: Log,
    ) -> None:
        self._controller, self._adapters, self._aliases, self._log = controller, adapters, aliases, log
        self._published = published
        self._decide: dict[type[Event], Callable[[Received[Any]], Awaitable[ReleaseDecision]]] = {
            AdapterValidated: self._consider,
            PromotionRequested: self._promote,
            ExperimentRequested: self._experiment,
            RollbackRequested: self._roll_back,
        }

    def handlers(self) -> Handlers:
        change = Batch(self.change)  # one call for all changes of releases, so that their tasks are locked together
        return {InteractionRecorded: change, AdapterRejected: self.on_rejected, **dict.fromkeys(self._decide, change)}

    async def change(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """Decides on validated adapters and requests. Judges canaries once, at the batch's last interaction."""
        interactions = [each.event for each in batch if isinstance(each.event, InteractionRecorded)]
        seen = {event.task for event in interactions if event.task}
        asked = {each.event.task for each in batch if isinstance(each.event, Requested)}
        outcomes = []
        for received in batch:
            decide: ReleaseDecision | None = None
            if type(received.event) in self._decide:
                decide = await self._decide[type(received.event)](received)
            elif seen and received.event is interactions[-1]:
                decide = partial(self._controller.evaluate, seen, received.identity)
            outcomes.append(self._outcome(decide, asked | seen if asked else ()) if decide else NOTHING)
        return outcomes

    async def on_rejected(self, received: Received[AdapterRejected]) -> Outcome:
        event = received.event
        self._log("adapter was rejected", task=event.task, adapter=event.adapter_id, reasons=list(event.reasons))
        return NOTHING

    async def evaluate(self, scheduled: datetime) -> Outcome:
        """A tick: judges canaries whose time is over, also when no more interactions arrive.

        It also publishes the releases again that promotions.v1 has lost.
        """
        cause = f"tick {scheduled.isoformat()}"
        return self._outcome(lambda: [*self._published.again(), *self._controller.evaluate(None, cause)])

    async def follow_tasks(self, scheduled: datetime) -> Outcome:
        """A tick: takes adapters out of service whose tasks were replaced."""
        return self._outcome(lambda: self._controller.follow_tasks(f"tick {scheduled.isoformat()}"))

    async def set_aliases(self, scheduled: datetime) -> Outcome:
        """A tick: sets the registry's aliases."""
        return Outcome(after=lambda: self._aliases.follow(scheduled))

    async def _consider(self, received: Received[AdapterValidated]) -> ReleaseDecision:
        event = received.event
        return partial(
            self._controller.consider, event.task, event.adapter_id, received.identity, fingerprint=event.fingerprint
        )

    async def _promote(self, received: Received[PromotionRequested]) -> ReleaseDecision:
        event = received.event
        record = await asyncio.to_thread(self._require_validated, event.task, event.adapter_id)
        return partial(
            self._controller.promote,
            event.task,
            event.adapter_id,
            event.reason or BY_HAND,
            received.identity,
            seen=event.sequence,
            fingerprint=record.fingerprint,
        )

    async def _experiment(self, received: Received[ExperimentRequested]) -> ReleaseDecision:
        event = received.event
        record = await asyncio.to_thread(self._require_validated, event.task, event.adapter_id)
        return partial(
            self._controller.experiment,
            event.task,
            event.adapter_id,
            event.share,
            received.identity,
            seen=event.sequence,
            fingerprint=record.fingerprint,
        )

    async def _roll_back(self, received: Received[RollbackRequested]) -> ReleaseDecision:
        event = received.event
        return partial(
            self._controller.roll_back,
            event.task,
            event.reason or BY_HAND,
            received.identity,
            adapter_id=event.adapter_id,
            seen=event.sequence,
        )

    def _outcome(self, decide: ReleaseDecision, tasks: Collection[str] = ()) -> Outcome:
        """``tasks``: those that the batch may change; all are locked before the first is changed."""

        def effect() -> Sequence[Output]:
            if tasks:
                self._controller.lock(tasks)
            return decide()

        return Outcome(effect=effect)

    def _require_validated(self, task: str, adapter_id: str) -> AdapterRecord:
        record = self._adapters.find(adapter_id)
        if record is None or record.task != task:
            raise InvalidEvent(f"the registry knows no adapter {adapter_id} of {task}: see 'everlearn adapters list'")
        if record.removed_at is not None:
            raise InvalidEvent(
                f"{adapter_id} was deleted ({record.removed_at:%Y-%m-%d}), since it had not served for "
                "[retention] adapter_days: train again, or promote another adapter"
            )
        if record.state == "rejected":
            raise InvalidEvent(f"{adapter_id} was rejected ({'; '.join(record.reasons)}): promote another adapter")
        if record.state != "validated":
            raise InvalidEvent(f"{adapter_id} is not validated yet: ask again when it is")
        return record


class ReleaseAliases:
    """Sets the registry's aliases ``champion`` and ``challenger`` to what the release state in SQL says.

    Only a tick does it. So a registry that is slow or unreachable delays no release, and the next tick sets what a
    crash has prevented.
    """

    def __init__(self, releases: Releases, aliases: Aliases) -> None:
        self._releases, self._aliases = releases, aliases
        self._set: dict[str, int] = {}
        self._set_again_at: datetime | None = None

    def follow(self, now: datetime) -> None:
        """Sets the aliases of releases that changed since this promoter set them. Raises the last failure."""
        due = self._set_again_at is None or now >= self._set_again_at
        if due or (
            self._set_again_at is not None and now < self._set_again_at - SET_AGAIN_AFTER
        ):  # the clock went back
            self._set, self._set_again_at = {}, now + SET_AGAIN_AFTER
        failure: EverlearnError | None = None
        for release in self._releases.all():
            if self._set.get(release.task) == release.sequence:
                continue
            challenger = release.challenger if release.stage != "steady" else None
            try:
                self._aliases.set_aliases(release.task, champion=release.champion, challenger=challenger)
            except EverlearnError as error:
                failure = error  # another task's aliases can still be set
            else:
                self._set[release.task] = release.sequence
        if failure is not None:
            raise failure
