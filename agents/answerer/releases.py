"""Brings the engine's adapters in step with what is released, and says which release is really served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from agents.answerer.ports import AdapterStore, Engine
from agents.answerer.routing import ReleaseStates, adapters_of
from agents.errors import AdapterMissing
from schemas.fleet import Serving
from schemas.release import ReleaseEvent


class ServedReleases:
    """The release states that the engine can answer by. A task whose new adapter is missing keeps its old state."""

    def __init__(self, engine: Engine, adapters: AdapterStore) -> None:
        self._engine = engine
        self._adapters = adapters
        self._wanted = ReleaseStates()
        self._served: dict[str, ReleaseEvent] = {}
        self._paths: dict[str, Path] = {}
        self.problem: str | None = None
        """What keeps this worker from serving the newest release, in one line; None when nothing does."""

    @property
    def served(self) -> Mapping[str, ReleaseEvent]:
        """By task; what the engine's adapters are in step with."""
        return self._served

    @property
    def behind(self) -> bool:
        """Whether something was released that is not served yet."""
        return self._wanted.latest != self._served

    def apply(self, event: ReleaseEvent) -> bool:
        """Takes note of a release; ``adopt`` makes it served. False when it is not news."""
        return self._wanted.apply(event)

    def adopt(self) -> None:
        """Loads and drops adapters until what is released is served, a task at a time. Slow: call it in a thread.

        Nothing may be generated meanwhile, else a batch could ask for an adapter that has just gone.
        """
        problems = []
        for task, state in self._wanted.latest.items():
            if self._served.get(task) == state:
                continue
            candidate = {**self._served, task: state}
            try:
                paths = self._needed(candidate)
                self._engine.set_adapters(paths)
            except AdapterMissing as error:
                problems.append(f"{task}: {error}")
            else:
                self._served, self._paths = candidate, paths
        self.problem = "; ".join(problems) or None

    def _needed(self, states: Mapping[str, ReleaseEvent]) -> dict[str, Path]:
        """A loaded adapter is not looked up again: its folder may be gone while it serves well."""
        needed = {each for state in states.values() for each in adapters_of(state)}
        return {each: self._paths.get(each) or self._adapters.path(each) for each in sorted(needed)}


def serving(tasks: Iterable[str], served: Mapping[str, ReleaseEvent]) -> list[Serving]:
    """What a heartbeat says of each task; sequence 0 and no adapter where nothing was released."""
    states = [(task, served.get(task)) for task in sorted(tasks)]
    return [
        Serving(task=task, sequence=state.sequence, adapters=adapters_of(state)) if state else Serving(task=task)
        for task, state in states
    ]
