"""Marks the events that a worker has begun, so that an event which kills its process is found and given up.

Before a batch is handled, its offsets are stored. The worker that takes over after a crash sees which events were in
flight. It handles them together once more, because most crashes have another cause and handling them one at a time
takes much longer. After a second crash it handles them one at a time and counts the attempts. An event that repeatedly
kills its process goes to the dead-letter topic.

Only a death while the handler worked on the event counts. So a worker takes its marks back when it stops, when it loses
a partition, and while it waits for something that is unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from agents.delivery.dead_letters import Failure
from agents.delivery.ports import InFlightMarks
from schemas.delivery import InFlight
from schemas.envelope import Position


class InFlightTracker:
    """The in-flight marks of one agent, seen by one life of one of its workers.

    An event is *interrupted* if another life had begun it and not finished it.
    """

    def __init__(
        self,
        agent: str,
        marks: InFlightMarks,
        *,
        life: str,
        clock: Callable[[], datetime],
        crashes: int,
        topic_id: Callable[[str], str],
    ) -> None:
        """``crashes``: how often an event may kill its process when it is handled alone.

        ``topic_id``: the id of the topic that has this name now. Marks of an earlier topic of that name say nothing.
        """
        self._agent = agent
        self._marks = marks
        self._life = life
        self._clock = clock
        self._crashes = crashes
        self._topic_id = topic_id
        self._known: dict[tuple[str, int], InFlight] | None = None
        self._begun: dict[tuple[str, int], InFlight] = {}
        """The marks of this life that count if it dies now."""
        self._lost: set[tuple[str, int]] = set()
        self._kept = False

    def forget(self, assigned: Collection[tuple[str, int]] = ()) -> None:
        """Reads the marks again before the next batch; call it whenever partitions were assigned."""
        self._known = None
        self._lost -= set(assigned)

    async def take_back(self) -> None:
        """Notes that the events are not being worked on: if the process ends now, they are not the reason.

        Raises Unavailable; then the marks still count.
        """
        if self._begun and not self._kept:
            await self._uncount(self._begun)

    async def lose(self, partitions: Collection[tuple[str, int]]) -> None:
        """Takes back the marks of partitions that go to another worker, which sees no crash in them then.

        This worker may still be handling their events. It makes no more marks for them. Raises Unavailable.
        """
        self._lost.update(partitions)
        if begun := {where: mark for where, mark in self._begun.items() if where in self._lost}:
            await self._uncount(begun)

    def keep(self) -> None:
        """Leaves the marks as they are: this life ends because of the events that are in flight."""
        self._kept = True

    async def interrupted(self, positions: Sequence[Position]) -> tuple[set[Position], set[Position]]:
        """Returns the interrupted events: those to handle together once more, and those to handle one at a time."""
        if self._known is None:
            marks = await asyncio.to_thread(self._marks.read, self._agent)
            self._known = {(mark.topic, mark.partition): mark for mark in marks}
        together, alone = set[Position](), set[Position]()
        for position in positions:
            mark = self._mark_of(position)
            counts = mark is not None and (mark.alone or mark.attempts > 0)  # 0: it was taken back
            if mark is not None and counts and mark.first <= position.offset <= max(mark.last, mark.suspects_to):
                (alone if mark.alone or mark.attempts > 1 else together).add(position)
        return together, alone

    def failure(self, position: Position) -> Failure | None:
        """Returns why an interrupted event is given up, or None while it deserves another attempt."""
        mark = self._mark_of(position)
        attempts = self._attempts_alone(mark, position)
        if mark is None or attempts < self._crashes:
            return None
        return Failure(
            error="ProcessKilled",
            message=f"it brought its worker down {attempts} times when handled alone",
            attempts=attempts,
            first_failure=mark.since,
        )

    async def begin(self, positions: Sequence[Position]) -> None:
        """Marks a batch."""
        marks = self._batch_marks(positions)
        await self._write(marks)
        if self._known is not None:
            self._known.update(marks)

    async def begin_again(self, positions: Sequence[Position]) -> None:
        """Marks interrupted events that are handled together once more.

        Interrupted events behind them, which have not arrived yet, stay interrupted.
        """
        marks = {}
        for where, mark in self._batch_marks(positions).items():
            before = (self._known or {}).get(where, mark)
            marks[where] = replace(mark, attempts=2, suspects_to=max(before.last, before.suspects_to))
        await self._write(marks)

    async def begin_alone(self, position: Position) -> None:
        """Marks an interrupted event that is handled alone, and counts the attempt."""
        before = self._mark_of(position)
        attempts = self._attempts_alone(before, position)
        mark = replace(self._new_mark(position, self._clock()), alone=True, attempts=attempts + 1)
        if before is not None:
            since = before.since if attempts else mark.since
            mark = replace(mark, since=since, suspects_to=max(before.last, before.suspects_to))
        await self._write({(position.topic, position.partition): mark})

    async def _write(self, marks: dict[tuple[str, int], InFlight]) -> None:
        held = {where: mark for where, mark in marks.items() if where not in self._lost}
        await asyncio.to_thread(self._marks.write, self._agent, list(held.values()))
        self._begun.update(held)

    async def _uncount(self, begun: dict[tuple[str, int], InFlight]) -> None:
        marks = [replace(mark, attempts=mark.attempts - 1) for mark in begun.values()]
        await asyncio.to_thread(self._marks.write, self._agent, marks)
        self._begun = {where: mark for where, mark in self._begun.items() if where not in begun}

    def _mark_of(self, position: Position) -> InFlight | None:
        mark = (self._known or {}).get((position.topic, position.partition))
        if mark is None or mark.life == self._life or mark.topic_id != self._topic_id(position.topic):
            return None
        return mark

    def _batch_marks(self, positions: Sequence[Position]) -> dict[tuple[str, int], InFlight]:
        now = self._clock()
        marks: dict[tuple[str, int], InFlight] = {}
        for position in positions:
            where = (position.topic, position.partition)
            mark = marks.get(where) or self._new_mark(position, now)
            first, last = min(mark.first, position.offset), max(mark.last, position.offset)
            marks[where] = replace(mark, first=first, last=last)
        return marks

    def _new_mark(self, position: Position, now: datetime) -> InFlight:
        return InFlight(
            topic=position.topic,
            partition=position.partition,
            first=position.offset,
            last=position.offset,
            suspects_to=-1,
            attempts=1,
            alone=False,
            life=self._life,
            since=now,
            topic_id=self._topic_id(position.topic),
        )

    @staticmethod
    def _attempts_alone(mark: InFlight | None, position: Position) -> int:
        if mark is None or not mark.alone or mark.first != position.offset:
            return 0
        return mark.attempts
