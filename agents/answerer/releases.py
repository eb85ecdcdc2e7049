"""Loads released adapters into the engine, and keeps track of which release is really served.

A new adapter is verified, loaded beside those that serve, and probed. Only then can a question use it. The swap itself
is one assignment and takes effect with the next batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from agents.answerer.ports import AdapterStore, Engine
from agents.answerer.routing import ReleaseStates, adapters_of
from schemas.errors import AdapterMissing, Unavailable, first_line
from schemas.fleet import Serving
from schemas.generation import GenerationRequest
from schemas.promotions import ReleaseEvent
from schemas.registry import Probe
from schemas.tasks import TaskFingerprint, differences

SHARE_ELSEWHERE = 0.5
"""The share of probes that must get the same answer on another engine or precision, which rounds differently."""


class LoadedAdapters:
    """The adapters that questions may use. One thread at a time may call it, also while batches are generated."""

    def __init__(self, engine: Engine, store: AdapterStore, *, unprobed: bool) -> None:
        self._engine, self._store, self._unprobed = engine, store, unprobed
        self._paths: dict[str, Path] = {}

    def ensure(self, adapter_ids: Iterable[str]) -> None:
        """Loads the adapters that are not loaded yet. Raises AdapterMissing for the first that cannot be loaded.

        A loaded adapter is not checked again: it serves well even if its folder is gone.
        """
        for adapter_id in adapter_ids:
            if adapter_id not in self._paths:
                self._load(adapter_id)

    def holds_others(self, adapter_ids: Collection[str]) -> bool:
        """Whether ``keep_only`` would drop something."""
        return not self._paths.keys() <= set(adapter_ids)

    def keep_only(self, adapter_ids: Collection[str]) -> None:
        """Drops all others. Call it while no batch is generated: a batch could use an adapter that is dropped."""
        kept = {each: path for each, path in self._paths.items() if each in adapter_ids}
        self._engine.set_adapters(dict(kept))
        self._paths = kept

    def _load(self, adapter_id: str) -> None:
        before = dict(self._paths)
        try:
            self._paths = self._with(adapter_id, before)
        except Exception as error:
            self._engine.set_adapters(before)
            if isinstance(error, AdapterMissing):
                raise
            # An adapter may be broken in ways that no check foresees, and must not stop what serves.
            what = "probed" if isinstance(error, Unavailable) else "loaded"
            raise AdapterMissing(
                f"{adapter_id} cannot be {what} ({first_line(error)}): train it again, or roll back"
            ) from error

    def _with(self, adapter_id: str, before: Mapping[str, Path]) -> dict[str, Path]:
        """Loads an adapter beside the others and probes it; returns the paths of all."""
        path = self._store.path(adapter_id)
        self._store.verify(adapter_id)
        probes = self._store.probes(adapter_id)
        engine, unprobed = self._engine.signature, self._unprobed
        if not probes:  # no need to load the weights for this decision
            self._check(objection(adapter_id, (), (), engine=engine, unprobed=unprobed))
        self._engine.set_adapters({**before, adapter_id: path})
        # One at a time, so that a batch of questions waits for one probe at most.
        answers = [self._engine.generate([request])[0].text for request in requests_of(probes, adapter_id)]
        self._check(objection(adapter_id, probes, answers, engine=engine, unprobed=unprobed))
        return {**before, adapter_id: path}

    @staticmethod
    def _check(reason: str | None) -> None:
        if reason is not None:
            raise AdapterMissing(reason)


class ServedReleases:
    """The release states that the engine can answer by.

    A task whose new adapter cannot be served keeps its old state. A worker that has just started has no old state: then
    the champion answers alone, where only the challenger cannot be served, and else the base model.
    """

    def __init__(self, loaded: LoadedAdapters) -> None:
        self._loaded = loaded
        self._wanted = ReleaseStates()
        self._served: dict[str, ReleaseEvent] = {}
        self.problem: str | None = None
        """Why this worker cannot serve the newest release, or cannot roll back at once, in one line; else None."""

    @property
    def served(self) -> Mapping[str, ReleaseEvent]:
        """The release of each task whose adapters are loaded. A mapping that was returned never changes."""
        return self._served

    @property
    def behind(self) -> bool:
        """Whether something was released that is not served yet."""
        return self._wanted.latest != self._served

    def apply(self, event: ReleaseEvent) -> bool:
        """Remembers a release, which ``adopt`` then serves. Returns False when it is not newer."""
        return self._wanted.apply(event)

    def adopt(self) -> None:
        """Loads what is released and swaps to it, task by task. Slow: call it in a thread, one at a time.

        Batches may be generated at the same time, because nothing is dropped here. The adapters that the champions
        replaced are loaded last, so that a rollback is only a swap too.
        """
        problems = []
        for task, state in self._wanted.latest.items():
            if self._served.get(task) == state:
                continue
            try:
                self._loaded.ensure(adapters_of(state))
            except (AdapterMissing, Unavailable) as error:
                self._serve_champion_alone(state)
                problems.append(f"{task}: release {state.sequence} is not served, {self._answering(task)}: {error}")
            else:
                self._served = {**self._served, task: state}
        for task, state in self._served.items():
            try:
                self._loaded.ensure(_spares(state))
            except (AdapterMissing, Unavailable) as error:
                problems.append(f"{task}: there is no way back, for {error}")
        self.problem = "; ".join(problems) or None

    def _serve_champion_alone(self, state: ReleaseEvent) -> None:
        """Does what can be done for a task that has no old state to keep."""
        if state.task in self._served or state.champion is None or state.challenger is None:
            return
        try:
            self._loaded.ensure([state.champion])
        except (AdapterMissing, Unavailable):
            return
        alone = state.model_copy(update={"challenger": None, "stage": "steady", "share": 0.0})
        self._served = {**self._served, state.task: alone}

    def _answering(self, task: str) -> str:
        served = self._served.get(task)
        if served is None or served.champion is None:
            return "the base model answers"
        return f"{served.champion} answers"

    @property
    def has_unused(self) -> bool:
        """Whether ``drop_unused`` would drop something."""
        return self._loaded.holds_others(self._named())

    def drop_unused(self) -> None:
        """Drops adapters that no served release names. Call it while no batch is generated."""
        self._loaded.keep_only(self._named())

    def _named(self) -> set[str]:
        return {each for state in self._served.values() for each in (*adapters_of(state), *_spares(state))}


def _spares(state: ReleaseEvent) -> tuple[str, ...]:
    """The adapters that a rollback would need: the one before the champion."""
    return () if state.previous is None else (state.previous,)


def serving(
    tasks: Iterable[str], served: Mapping[str, ReleaseEvent], fingerprints: Mapping[str, TaskFingerprint]
) -> list[Serving]:
    """Returns what a heartbeat reports of each task: sequence 0 and no adapter where nothing was released.

    ``fingerprints``: the tasks as this worker asks them.
    """
    return [_serving(task, served.get(task), fingerprints.get(task)) for task in sorted(tasks)]


def _serving(task: str, state: ReleaseEvent | None, present: TaskFingerprint | None) -> Serving:
    if state is None:
        return Serving(task=task)
    differs = [
        f"{adapter}: {difference}"
        for adapter in adapters_of(state)
        if present is not None and adapter in state.fingerprints
        for difference in differences(state.fingerprints[adapter], present)
    ]
    return Serving(task=task, sequence=state.sequence, adapters=adapters_of(state), differs=tuple(differs))


def requests_of(probes: Sequence[Probe], adapter_id: str) -> list[GenerationRequest]:
    """Returns the probes as requests to an engine: greedy, and as short as the validator asked them."""
    return [
        GenerationRequest(messages=probe.messages, adapter_id=adapter_id, max_tokens=probe.max_tokens)
        for probe in probes
    ]


def objection(
    adapter_id: str, probes: Sequence[Probe], answers: Sequence[str], *, engine: str, unprobed: bool
) -> str | None:
    """Returns in one line why an adapter must not be served, or None when it may be.

    On the engine and precision that made the probes, every answer must be exactly the same. On another one, half of the
    answers must be. An adapter without probes was never validated, and is served only where ``unprobed`` allows it.
    """
    if not probes:
        if unprobed:
            return None
        return (
            f"{adapter_id} was never validated, for no probes lie beside it: have it validated, or set [answerer] "
            "unprobed = true to serve adapters that were installed by hand"
        )
    alike = sum(answer == probe.output for probe, answer in zip(probes, answers, strict=True))
    needed = len(probes) if all(probe.engine == engine for probe in probes) else SHARE_ELSEWHERE * len(probes)
    if alike >= needed:
        return None
    probe, answer = next(
        (probe, answer) for probe, answer in zip(probes, answers, strict=True) if answer != probe.output
    )
    return (
        f"{adapter_id} does not answer as it did when it was validated, {len(probes) - alike} of {len(probes)} probes "
        f"differ, such as {answer!r:.60} for {probe.output!r:.60}: train it again, or roll back"
    )
