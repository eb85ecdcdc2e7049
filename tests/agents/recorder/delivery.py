"""A small delivery: a journal, one transaction for each batch, effects in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.delivery.outcome import Outcome, Output
from agents.delivery.ports import Database, Journal
from agents.delivery.worker import BatchHandler
from schemas.envelope import Received
from schemas.event import Event
from tests.agents.recorder.facts import START


class Delivery:
    """Delivers batches to a handler and keeps what it would publish."""

    def __init__(self, handle: BatchHandler, database: Database, journal: Journal) -> None:
        self.handle = handle
        self.database = database
        self.journal = journal
        self.published: list[Output] = []

    async def deliver(self, *events: Received[Event]) -> None:
        """Delivers one batch, without the events that the journal knows."""
        known = self.journal.find("recorder", [each.identity for each in events])
        fresh = list({each.identity: each for each in events if each.identity not in known}.values())
        self.commit(list(zip(fresh, await self.handle(fresh), strict=True)))

    def commit(
        self,
        outcomes: Sequence[tuple[Received[Event], Outcome]],
        before_each: Callable[[int], None] = lambda number: None,
    ) -> None:
        """Runs the effects in one transaction. ``before_each`` may raise, and then nothing of the batch is stored."""
        outputs: list[Output] = []
        with self.database.transaction():
            for number, (received, outcome) in enumerate(outcomes):
                before_each(number)
                outputs += outcome.outputs
                if outcome.effect is not None:
                    outputs += [each for each in outcome.effect() if isinstance(each, Output)]
                self.journal.add("recorder", received.identity, (), START)
        self.published += outputs
