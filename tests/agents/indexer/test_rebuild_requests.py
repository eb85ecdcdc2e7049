"""A request to rebuild becomes one run of an index at a time; one that failed leaves no half of an index behind."""

from __future__ import annotations

from typing import Any

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.indexer.rebuild_requests import KIND, Rebuilds
from infra.memory.runs import MemoryRunStore
from schemas.delivery import Claim
from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from tests.agents.indexer.room import START
from tests.fixtures.indexes import index, serving
from tests.fixtures.sql import memory_stores


class Desk:
    """Rebuilds over memory twins, where the task own has an index."""

    def __init__(self) -> None:
        stores = memory_stores()
        self.database, self.runs = stores.database, stores.runs
        self.indexes = serving(index(), index("own0", "own"))
        assert isinstance(self.runs, MemoryRunStore)
        self.rebuilds = Rebuilds(
            agent="indexer", own=["own"], runs=self.runs, indexes=self.indexes, where={"config": "c"}
        )

    def ask(self, task: str | None, cause: str) -> Output | RunRequest:
        led_to: Output | RunRequest
        [led_to] = self.effect(self.rebuilds.start(IndexRebuildRequested(task=task), cause))
        if isinstance(led_to, RunRequest):
            with self.database.transaction():
                self.runs.add("indexer", f"run of {cause}", led_to.kind, led_to.arguments, {}, START)
        return led_to

    def effect(self, outcome: Outcome) -> list[Any]:
        assert outcome.effect is not None
        with self.database.transaction():
            return list(outcome.effect())

    def states(self) -> dict[str, str]:
        return {each.index_id: each.state for each in self.indexes.all()}


def claim(task: str | None) -> Claim:
    return Claim(run_id="r", kind=KIND, arguments={"task": task, "cause": "c"}, context={}, attempt=3)


def reason(led_to: Output | RunRequest) -> str:
    assert isinstance(led_to, Output)
    assert isinstance(led_to.event, IndexNotRebuilt)
    return led_to.event.reason


def test_each_index_is_rebuilt_once_at_a_time() -> None:
    desk = Desk()
    asked = desk.ask(None, "first")
    assert asked == RunRequest(kind=KIND, arguments={"config": "c", "task": None, "cause": "first"})
    assert isinstance(desk.ask("own", "second"), RunRequest)
    assert "a rebuild of this index is under way (run run of first)" in reason(desk.ask(None, "third"))
    assert "under way" in reason(desk.ask("own", "fourth"))


def test_a_task_without_an_index_of_its_own_is_told_what_to_set() -> None:
    assert "set chunk_tokens in [tasks.support]" in reason(Desk().ask("support", "c"))


def test_a_failed_rebuild_gives_up_what_it_has_begun_and_nothing_else() -> None:
    desk = Desk()
    desk.indexes.add(index("half", state="building"))
    desk.indexes.add(index("another", "own", state="building"))
    [output] = desk.effect(desk.rebuilds.failed(claim(None), "it broke"))
    assert output.event == IndexNotRebuilt(task=None, reason="it broke", cause="c")
    assert desk.states() == {"index0": "serving", "own0": "serving", "half": "retired", "another": "building"}
    desk.effect(desk.rebuilds.failed(claim("own"), "it broke"))
    assert desk.states()["another"] == "retired"


def test_a_done_rebuild_tells_its_recipe_and_its_cause() -> None:
    result = {
        "index_id": "i",
        "embedding_model": "m",
        "chunk_tokens": 16,
        "overlap_tokens": 4,
        "documents": 2,
        "chunks": 3,
    }
    [output] = Desk().rebuilds.done(claim("own"), result).outputs
    assert output.event == IndexRebuilt(**result, task="own", cause="c")
