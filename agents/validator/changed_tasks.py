"""Validates an adapter again when its task is no longer the one that it was validated on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from agents.delivery.outcome import Outcome, RunRequest
from agents.delivery.ports import Runs
from agents.validator import AGENT
from agents.validator.agent import EARLIER_RUNS, KIND
from agents.validator.ports import AdapterLookup
from schemas.promotions import ReleaseEvent
from schemas.tasks import TaskFingerprint, differences


def to_validate(release: ReleaseEvent, present: TaskFingerprint) -> str | None:
    """Returns the adapter of a release that must be validated on the present task, if any.

    It is the champion, or the one that fell because the task was replaced. A challenger is judged by its canary.
    """
    adapter = release.champion or release.fallen
    known = release.fingerprints.get(adapter) if adapter is not None else None
    return adapter if known is not None and differences(known, present) else None


class ChangedTasks:
    """Requests one validation for each adapter and state of its task."""

    def __init__(
        self,
        *,
        fingerprints: Mapping[str, TaskFingerprint],
        releases: Callable[[], Mapping[str, ReleaseEvent]],
        adapters: AdapterLookup,
        runs: Runs,
        settings_location: Mapping[str, Any],
    ) -> None:
        """``fingerprints``: the tasks as they are now. ``releases``: the newest release of each task."""
        self._fingerprints, self._releases, self._adapters, self._runs = fingerprints, releases, adapters, runs
        self._settings_location = dict(settings_location)
        self._requested: set[tuple[str, str]] = set()
        """Tasks and adapters whose validation was requested; the tasks do not change while a worker runs."""

    async def validate(self, scheduled: datetime) -> Outcome:
        """A tick. Raises Unavailable while the registry cannot be reached."""
        runs: list[RunRequest] = []
        for task, release in self._releases().items():
            present = self._fingerprints.get(task)
            adapter = to_validate(release, present) if present is not None else None
            if present is None or adapter is None or (task, adapter) in self._requested:
                continue
            record = await asyncio.to_thread(self._adapters.find, adapter)
            if record is None:  # it was forgotten, or installed by hand: there is no dataset to judge it by
                self._requested.add((task, adapter))
                continue
            arguments = {
                **self._settings_location,
                "task": task,
                "adapter_id": adapter,
                "dataset_id": record.dataset_id,
                "champion": None,  # the base model is what would answer without the adapter
                "changed_to": present.model_dump(mode="json"),
            }
            runs.append(RunRequest(kind=KIND, arguments=arguments))
        return Outcome(effect=lambda: self._new(runs))

    def _new(self, runs: Sequence[RunRequest]) -> Sequence[RunRequest]:
        """Inside the transaction: leaves out what was requested before. A failed run is not repeated either."""
        new = []
        for run in runs:
            task, adapter = run.arguments["task"], run.arguments["adapter_id"]
            earlier = self._runs.of_task(AGENT, task, EARLIER_RUNS)
            if any(_is_same(each.arguments, run.arguments) for each in earlier):
                self._requested.add((task, adapter))
            else:
                new.append(run)
        return new


def _is_same(earlier: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(earlier.get(name) == wanted[name] for name in ("adapter_id", "changed_to"))
