"""Brings the engine's adapters in step with what is released, and says which release is really served.

Loading happens beside what serves; the swap itself is one assignment, which the next batch sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agents.answerer.loading import LoadedAdapters
from agents.answerer.routing import ReleaseStates, adapters_of
from agents.errors import AdapterMissing
from schemas.fleet import Serving
from schemas.release import ReleaseEvent


class ServedReleases:
    """The release states that the engine can answer by. A task whose new adapter is missing keeps its old state."""

    def __init__(self, loaded: LoadedAdapters) -> None:
        self._loaded = loaded
        self._wanted = ReleaseStates()
        self._served: dict[str, ReleaseEvent] = {}
        self.problem: str | None = None
        """What keeps this worker from serving the newest release or from going back at once, in one line."""

    @property
    def served(self) -> Mapping[str, ReleaseEvent]:
        """By task; what the engine's adapters are in step with. What was had from here never changes."""
        return self._served

    @property
    def behind(self) -> bool:
        """Whether something was released that is not served yet."""
        return self._wanted.latest != self._served

    def apply(self, event: ReleaseEvent) -> bool:
        """Takes note of a release; ``adopt`` makes it served. False when it is not news."""
        return self._wanted.apply(event)

    def adopt(self) -> None:
        """Loads what is released and swaps to it, a task at a time. Slow: call it in a thread, one at a time.

        Batches may be generated meanwhile, for nothing is dropped here. The adapter before the champion is loaded
        last: going back to it is then a swap too.
        """
        problems = []
        for task, state in self._wanted.latest.items():
            if self._served.get(task) == state:
                continue
            try:
                self._loaded.ensure(adapters_of(state))
            except AdapterMissing as error:
                problems.append(f"{task}: {error}")
            else:
                self._served = {**self._served, task: state}
        for task, state in self._served.items():
            try:
                self._loaded.ensure(_spares(state))
            except AdapterMissing as error:
                problems.append(f"{task}: there is no way back, for {error}")
        self.problem = "; ".join(problems) or None

    @property
    def has_unused(self) -> bool:
        """Whether ``drop_unused`` would drop something."""
        return self._loaded.holds_others(self._named())

    def drop_unused(self) -> None:
        """Lets go of what no served release names. Nothing may be generated meanwhile."""
        self._loaded.keep_only(self._named())

    def _named(self) -> set[str]:
        return {each for state in self._served.values() for each in (*adapters_of(state), *_spares(state))}


def _spares(state: ReleaseEvent) -> tuple[str, ...]:
    """At most three adapters of a task are loaded: champion, challenger and the one before the champion."""
    return () if state.previous is None else (state.previous,)


def serving(tasks: Iterable[str], served: Mapping[str, ReleaseEvent]) -> list[Serving]:
    """What a heartbeat says of each task; sequence 0 and no adapter where nothing was released."""
    states = [(task, served.get(task)) for task in sorted(tasks)]
    return [
        Serving(task=task, sequence=state.sequence, adapters=adapters_of(state)) if state else Serving(task=task)
        for task, state in states
    ]
