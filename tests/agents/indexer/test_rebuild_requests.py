"""A request to rebuild becomes one run for an index at a time; a failed run leaves no unfinished index behind."""

from __future__ import annotations

from typing import Any

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.indexer.rebuild_requests import KIND, Rebuilds
from infra.memory.runs import MemoryRunStore
from schemas.delivery import Claim
from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.envelope import Position, Received, new_context
from tests.agents.indexer.room import START
from tests.fixtures.indexes import index, serving
from tests.fixtures.sql import memory_stores


class Room:
    """Rebuilds on memory twins. The task ``own`` has an index of its own."""

    def __init__(self) -> None:
        stores = memory_stores()
        self.database, self.runs = stores.database, stores.runs
        self.indexes = serving(index(), index("own0", "own"))
        assert isinstance(self.runs, MemoryRunStore)
        self.rebuilds = Rebuilds(
            agent="indexer",
            own_scopes=["own"],
            runs=self.runs,
            indexes=self.indexes,
            settings_location={"config": "c"},
        )

    def ask(self, task: str | None, cause: str) -> Output | RunRequest:
        answer: Output | RunRequest
        [answer] = self.commit(self.rebuilds.start(IndexRebuildRequested(task=task), cause))
        if isinstance(answer, RunRequest):
            with self.database.transaction():
                self.runs.add("indexer", f"run of {cause}", answer.kind, answer.arguments, {}, START)
        return answer

    def commit(self, outcome: Outcome) -> list[Any]:
        assert outcome.effect is not None
        with self.database.transaction():
            return list(outcome.effect())

    def states(self) -> dict[str, str]:
        return {each.index_id: each.state for each in self.indexes.all()}


def claim(task: str | None) -> Claim:
    return Claim(run_id="r", kind=KIND, arguments={"task": task, "cause": "c"}, context={}, attempt=3)


def reason(answer: Output | RunRequest) -> str:
    assert isinstance(answer, Output)
    assert isinstance(answer.event, IndexNotRebuilt)
    return answer.event.reason


def test_each_index_is_rebuilt_once_at_a_time() -> None:
    room = Room()
    asked = room.ask(None, "first")
    assert asked == RunRequest(kind=KIND, arguments={"config": "c", "task": None, "cause": "first"})
    assert isinstance(room.ask("own", "second"), RunRequest)
    assert "a rebuild of this index is under way (run run of first)" in reason(room.ask(None, "third"))
    assert "under way" in reason(room.ask("own", "fourth"))


def test_a_task_without_an_index_of_its_own_is_told_what_to_set() -> None:
    assert "set chunk_tokens in [tasks.support]" in reason(Room().ask("support", "c"))


def test_a_failed_rebuild_gives_up_what_it_has_begun_and_nothing_else() -> None:
    room = Room()
    room.indexes.add(index("half", state="building"))
    room.indexes.add(index("another", "own", state="building"))
    [output] = room.commit(room.rebuilds.failed(claim(None), "it broke"))
    assert output.event == IndexNotRebuilt(task=None, reason="it broke", cause="c")
    assert room.states() == {"index0": "serving", "own0": "serving", "half": "retired", "another": "building"}
    room.commit(room.rebuilds.failed(claim("own"), "it broke"))
    assert room.states()["another"] == "retired"


def test_a_done_rebuild_tells_its_recipe_and_its_cause() -> None:
    result = {
        "index_id": "i",
        "embedding_model": "m",
        "chunk_tokens": 16,
        "overlap_tokens": 4,
        "documents": 2,
        "chunks": 3,
    }
    [output] = Room().rebuilds.done(claim("own"), result).outputs
    assert output.event == IndexRebuilt(**result, task="own", cause="c")


def test_whoever_waits_for_a_rebuild_that_is_given_up_is_told() -> None:
    context = new_context("/tests", now=START, event_id="c")
    request = Received(event=IndexRebuildRequested(task="own"), context=context, position=Position("requests.v1", 0, 0))
    (output,) = Room().rebuilds.given_up(request, "it broke")
    assert output.event == IndexNotRebuilt(task="own", reason="it broke", cause="c")
