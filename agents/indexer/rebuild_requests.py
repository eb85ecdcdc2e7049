"""Turns requests to rebuild an index into runs, and the end of a run into an event."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.ports import Runs
from agents.delivery.worker import Handlers
from agents.indexer.ports import ChangingIndexes
from schemas.delivery import Claim
from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.envelope import Received
from schemas.event import JsonObject
from schemas.indexes import DEFAULT_SCOPE

KIND: Final = "rebuild"


class Rebuilds:
    """Starts one rebuild of an index at a time."""

    def __init__(
        self,
        *,
        agent: str,
        own_scopes: Collection[str],
        runs: Runs,
        indexes: ChangingIndexes,
        settings_location: Mapping[str, object],
    ) -> None:
        """``own_scopes``: the tasks with an index of their own. ``settings_location``: arguments by which a run's
        process finds the settings."""
        self._agent, self._own_scopes, self._runs, self._indexes = agent, own_scopes, runs, indexes
        self._settings_location = dict(settings_location)

    def handlers(self) -> Handlers:
        return {IndexRebuildRequested: self.on_request}

    async def on_request(self, received: Received[IndexRebuildRequested]) -> Outcome:
        return self.start(received.event, received.context.id)

    def given_up(self, received: Received[IndexRebuildRequested], reason: str) -> Sequence[Output]:
        """Tells whoever waits for a rebuild whose request went to the dead letters."""
        event = IndexNotRebuilt(task=received.event.task, reason=reason, cause=received.context.id)
        return (Output(event=event),)

    def start(self, event: IndexRebuildRequested, cause: str) -> Outcome:
        return Outcome(effect=lambda: [self._start(event, cause)])

    def done(self, claim: Claim, result: JsonObject) -> Outcome:
        event = IndexRebuilt(**result, task=claim.arguments["task"], cause=claim.arguments["cause"])
        return Outcome(outputs=(Output(event=event),))

    def failed(self, claim: Claim, reason: str) -> Outcome:
        event = IndexNotRebuilt(task=claim.arguments["task"], reason=reason, cause=claim.arguments["cause"])
        return Outcome(effect=lambda: [self._give_up(event)])

    def _give_up(self, event: IndexNotRebuilt) -> Output:
        """Inside the transaction: retires the unfinished index, so that documents are no longer written to it.

        The unfinished index of the scope is the failed run's, because there is one rebuild of it at a time.
        """
        self._indexes.hold()
        for index in self._indexes.active():
            if index.state == "building" and index.scope == (event.task or DEFAULT_SCOPE):
                self._indexes.retire(index.index_id)
        return Output(event=event)

    def _start(self, event: IndexRebuildRequested, cause: str) -> Output | RunRequest:
        """Inside the transaction: requests the run, or returns an event that says why not."""
        reason = self._obstacle(event.task)
        if reason is not None:
            return Output(event=IndexNotRebuilt(task=event.task, reason=reason, cause=cause))
        return RunRequest(kind=KIND, arguments={**self._settings_location, "task": event.task, "cause": cause})

    def _obstacle(self, task: str | None) -> str | None:
        if task is not None and task not in self._own_scopes:
            return (
                f"the task {task} has no index of its own: set chunk_tokens in [tasks.{task}], or leave out --task to "
                "rebuild the index that it shares; if it is set, restart the indexer"
            )
        for run in self._runs.unfinished(self._agent):
            if run.kind == KIND and run.arguments.get("task") == task:
                return f"a rebuild of this index is under way (run {run.run_id}): ask again when it has ended"
        return None
