"""Commits an outcome's change, its journal row and its encoded outputs in one SQL transaction, then publishes.

This is the transactional outbox pattern. If the process dies after the commit, the journal has the outputs byte for
byte and says whether they were published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.ports import Database, Journal, Publisher, RunStore
from schemas.delivery import JournalEntry
from schemas.envelope import EventContext, Record, derived_id, encode, identity, output_context
from schemas.errors import InvalidEvent, RecordRefused
from schemas.topics import MAX_RECORD_BYTES

log = structlog.get_logger()

OnStep = Callable[[str, Sequence[str]], None]
"""Called with the name of each step and the identities concerned; tests inject faults through it."""

_HEADROOM_BYTES = 64 * 1024


def no_hook(step: str, identities: Sequence[str]) -> None:
    """Does nothing; production's hook."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What caused an outcome: an event, a tick, or a finished run. ``digest``: of an event's content."""

    identity: str
    context: EventContext
    digest: bytes | None = None
    comes_again: bool = True
    """Whether it may be delivered again. If not, it is journaled only where it has outputs to publish."""


class Outbox:
    """Commits outcomes and publishes their outputs, for one agent."""

    def __init__(
        self,
        agent: str,
        *,
        database: Database,
        journal: Journal,
        runs: RunStore,
        publisher: Publisher,
        clock: Callable[[], datetime],
        on_step: OnStep = no_hook,
    ) -> None:
        self.agent = agent
        self._database = database
        self._journal = journal
        self._runs = runs
        self._publisher = publisher
        self._clock = clock
        self._on_step = on_step
        self._left: set[str] = set()
        """What the last call of ``relay`` found unpublished."""

    async def find(self, identities: Sequence[str]) -> dict[str, JournalEntry]:
        """Returns the journal's entries for these identities."""
        return await asyncio.to_thread(self._journal.find, self.agent, identities)

    async def settle(
        self, causes: Sequence[Cause], outcomes: Sequence[Outcome], found: dict[str, JournalEntry]
    ) -> None:
        """Commits the outcomes, publishes them and what ``found`` left unpublished, and marks all as published."""
        committed = await asyncio.to_thread(self._commit, causes, outcomes) if causes else {}
        self._on_step("committed", list(committed))
        unpublished = {identity: list(entry.outputs) for identity, entry in found.items() if not entry.published}
        unpublished.update(committed)
        await self._publish(unpublished)
        for outcome in outcomes:
            if outcome.after is not None:
                await self._run_after(outcome.after)

    async def record(self, identity: str, records: Sequence[Record]) -> None:
        """Journals and publishes records that belong to no outcome, such as a dead letter; once."""
        entry = (await self.find([identity])).get(identity)
        if entry is not None and entry.published:
            return
        if entry is None:
            await asyncio.to_thread(self._add, identity, records)
            entry = JournalEntry(outputs=tuple(records), published=False)
        await self._publish({identity: list(entry.outputs)})

    async def relay(self, sources: Sequence[str]) -> int:
        """Publishes what a crash left unpublished of ticks and runs, which no topic repeats. Returns how many.

        Call it every few seconds. It publishes only what the call before has found too: anything newer may be about to
        be published. No time is compared, because a clock may have been put back since.
        """
        found: dict[str, JournalEntry] = {}
        for source in sources:
            found |= await asyncio.to_thread(self._journal.unpublished, self.agent, f"{source} ")
        left = {identity: entry for identity, entry in found.items() if identity in self._left}
        self._left = found.keys() - left.keys()
        for name, entry in left.items():
            try:
                await self._publish({name: list(entry.outputs)})
            except RecordRefused as error:
                log.error("given up", agent=self.agent, identity=name, reason=str(error))
                await self.give_up(name)
        return len(left)

    async def give_up(self, identity: str) -> None:
        """Never publishes the outputs of an entry again, because Kafka will not take them."""
        await asyncio.to_thread(self._journal.mark_published, self.agent, [identity])

    def _add(self, identity: str, records: Sequence[Record]) -> None:
        with self._database.transaction():
            self._journal.add(self.agent, identity, records, self._clock())

    def _commit(self, causes: Sequence[Cause], outcomes: Sequence[Outcome]) -> dict[str, list[Record]]:
        now = self._clock()
        committed: dict[str, list[Record]] = {}
        with self._database.transaction():
            for cause, outcome in zip(causes, outcomes, strict=True):
                more = outcome.effect() if outcome.effect is not None else ()
                outputs = [*outcome.outputs, *(each for each in more if isinstance(each, Output))]
                runs = [*outcome.runs, *(each for each in more if isinstance(each, RunRequest))]
                committed[cause.identity] = [self._encode(cause, i, output, now) for i, output in enumerate(outputs)]
                for ordinal, run in enumerate(runs):
                    run_id = derived_id(cause.context.source, cause.context.id, self.agent, "run", ordinal)
                    self._runs.add(self.agent, run_id, run.kind, run.arguments, context=_as_json(cause.context), at=now)
            kept = {cause.identity for cause in causes if cause.comes_again or committed[cause.identity]}
            entries = [(identity, outputs) for identity, outputs in committed.items() if identity in kept]
            digests = {cause.identity: cause.digest for cause in causes if cause.digest is not None}
            self._journal.add_many(self.agent, entries, now, digests)
        return committed

    def encoded(self, context: EventContext, outputs: Sequence[Output], about: str) -> list[Record]:
        """Encodes outputs that belong to no outcome; ``about`` sets their ids apart. Raises InvalidEvent."""
        cause, now = Cause(identity=identity(context), context=context), self._clock()
        return [self._encode(cause, f"{about} {place}", output, now) for place, output in enumerate(outputs)]

    def _encode(self, cause: Cause, ordinal: int | str, output: Output, now: datetime) -> Record:
        record = encode(output.event, output_context(cause.context, self.agent, ordinal, output.time or now))
        size = len(record.value or b"")
        if size > MAX_RECORD_BYTES - _HEADROOM_BYTES:
            raise InvalidEvent(f"its {output.event.type} would have {size} bytes, more than a topic takes")
        return record

    async def _publish(self, unpublished: dict[str, list[Record]]) -> None:
        left = [identity for identity, outputs in unpublished.items() if outputs]
        if not left:
            return
        await self._publisher.publish([record for identity in left for record in unpublished[identity]])
        self._on_step("published", left)
        await asyncio.to_thread(self._journal.mark_published, self.agent, left)
        self._on_step("marked", left)

    async def _run_after(self, after: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(after)
        except Exception as error:  # noqa: BLE001  # a tick does the same later
            log.warning("postponed", agent=self.agent, error=f"{type(error).__name__}: {error}")


def _as_json(context: EventContext) -> dict[str, str]:
    values = {
        "id": context.id,
        "source": context.source,
        "time": context.time.isoformat(),
        "correlation_id": context.correlation_id,
        "causation_id": context.causation_id,
        "traceparent": context.traceparent,
    }
    return {name: value for name, value in values.items() if value is not None}


def context_of(values: dict[str, str]) -> EventContext:
    """Reads back, from a run's row, the context that the run was requested with."""
    return EventContext(**{**values, "time": datetime.fromisoformat(values["time"])})  # type: ignore[arg-type]  # str -> datetime
