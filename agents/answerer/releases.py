"""Brings the engine's adapters in step with what is released, and says which release is really served.

An adapter is loaded beside what serves, verified and probed before anybody may ask for it; the swap itself is one
assignment, which the next batch sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from agents.answerer.ports import AdapterStore, Engine
from agents.answerer.probing import objection, requests_of
from agents.answerer.routing import ReleaseStates, adapters_of
from schemas.errors import AdapterMissing, Unavailable
from schemas.fleet import Serving
from schemas.promotions import ReleaseEvent


class LoadedAdapters:
    """The adapters that may be asked for. One thread at a time; batches may be generated meanwhile."""

    def __init__(self, engine: Engine, store: AdapterStore, *, unprobed: bool) -> None:
        self._engine, self._store, self._unprobed = engine, store, unprobed
        self._paths: dict[str, Path] = {}

    def ensure(self, adapter_ids: Iterable[str]) -> None:
        """Takes in what is not there yet; raises AdapterMissing for the first that cannot be, and leaves it out.

        A loaded adapter is not looked at again: its folder may be gone while it serves well.
        """
        for adapter_id in adapter_ids:
            if adapter_id not in self._paths:
                self._take_in(adapter_id)

    def holds_others(self, adapter_ids: Collection[str]) -> bool:
        """Whether ``keep_only`` would drop something."""
        return not self._paths.keys() <= set(adapter_ids)

    def keep_only(self, adapter_ids: Collection[str]) -> None:
        """Drops all others. Nothing may be generated meanwhile, else a batch could ask for one that has just gone."""
        kept = {each: path for each, path in self._paths.items() if each in adapter_ids}
        self._engine.set_adapters(dict(kept))
        self._paths = kept

    def _take_in(self, adapter_id: str) -> None:
        path = self._store.path(adapter_id)
        self._store.verify(adapter_id)
        probes = self._store.probes(adapter_id)
        if not probes:  # the weights need not be loaded to know
            self._object(objection(adapter_id, (), (), engine=self._engine.signature, unprobed=self._unprobed))
        before = dict(self._paths)
        self._engine.set_adapters({**before, adapter_id: path})
        try:
            # one by one: a batch of questions waits for one probe at most
            asked = requests_of(probes, adapter_id)
            answers = [self._engine.generate([request])[0].text for request in asked]
            engine, unprobed = self._engine.signature, self._unprobed
            self._object(objection(adapter_id, probes, answers, engine=engine, unprobed=unprobed))
        except AdapterMissing:
            self._engine.set_adapters(before)
            raise
        except Unavailable as error:
            self._engine.set_adapters(before)
            raise AdapterMissing(f"{adapter_id} cannot be probed ({error}): train it again, or roll back") from error
        self._paths = {**before, adapter_id: path}

    @staticmethod
    def _object(reason: str | None) -> None:
        if reason is not None:
            raise AdapterMissing(reason)


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
