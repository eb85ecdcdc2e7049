"""Marks the events that a worker has begun, so that an event which kills its process is found and given up.

Before a batch is handled, its offsets are stored. The worker that takes over after a crash sees which events were in
flight. It handles them together once more, because most crashes have another cause and handling them one at a time
takes much longer. After a second crash it handles them one at a time and counts the attempts. An event that repeatedly
kills its process goes to the dead-letter topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
        self, agent: str, marks: InFlightMarks, *, life: str, clock: Callable[[], datetime], crashes: int
    ) -> None:
        """``crashes``: how often an event may kill its process when it is handled alone."""
        self._agent = agent
        self._marks = marks
        self._life = life
        self._clock = clock
        self._crashes = crashes
        self._known: dict[tuple[str, int], InFlight] | None = None

    def forget(self) -> None:
        """Reads the marks again before the next batch; call it whenever partitions were assigned."""
        self._known = None

    async def interrupted(self, positions: Sequence[Position]) -> tuple[set[Position], set[Position]]:
        """Returns the interrupted events: those to handle together once more, and those to handle one at a time."""
        if self._known is None:
            marks = await asyncio.to_thread(self._marks.read, self._agent)
            self._known = {(mark.topic, mark.partition): mark for mark in marks}
        together, alone = set[Position](), set[Position]()
        for position in positions:
            mark = self._mark_of(position)
            if mark is not None and mark.first <= position.offset <= max(mark.last, mark.suspects_to):
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
        await asyncio.to_thread(self._marks.write, self._agent, list(marks.values()))
        if self._known is not None:
            self._known.update(marks)

    async def begin_again(self, positions: Sequence[Position]) -> None:
        """Marks interrupted events that are handled together once more.

        Interrupted events behind them, which have not arrived yet, stay interrupted.
        """
        marks = []
        for where, mark in self._batch_marks(positions).items():
            before = (self._known or {}).get(where, mark)
            marks.append(replace(mark, attempts=2, suspects_to=max(before.last, before.suspects_to)))
        await asyncio.to_thread(self._marks.write, self._agent, marks)

    async def begin_alone(self, position: Position) -> None:
        """Marks an interrupted event that is handled alone, and counts the attempt."""
        before = self._mark_of(position)
        attempts = self._attempts_alone(before, position)
        mark = replace(self._new_mark(position, self._clock()), alone=True, attempts=attempts + 1)
        if before is not None:
            since = before.since if attempts else mark.since
            mark = replace(mark, since=since, suspects_to=max(before.last, before.suspects_to))
        await asyncio.to_thread(self._marks.write, self._agent, [mark])

    def _mark_of(self, position: Position) -> InFlight | None:
        mark = (self._known or {}).get((position.topic, position.partition))
        return mark if mark is not None and mark.life != self._life else None

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
        )

    @staticmethod
    def _attempts_alone(mark: InFlight | None, position: Position) -> int:
        if mark is None or not mark.alone or mark.first != position.offset:
            return 0
        return mark.attempts
