"""An indexer with documents, and a rebuild that calls back at each of its steps."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.indexer.versions import DocumentEvent, Key
from agents.indexer.work import Built, IndexBuilder
from agents.indexer.writing import IndexWriter, Version
from infra.conversion import read_html
from infra.memory.documents import MemoryDocuments
from schemas.documents import DocumentSubmitted
from schemas.envelope import Received
from schemas.errors import Unavailable
from schemas.features import DocumentState
from schemas.indexes import Index
from tests.agents.indexer.room import LONG, START, Room, submitted, withdrawn
from tests.fixtures.indexes import Always, index

NEW = index("new", model="other", chunk_tokens=32, overlap_tokens=8, state="building")
LIBRARY = [submitted(f"s{name}", 1, f"{LONG} {name}", document_id=name) for name in "acdf"]
LIVE = {
    "a new document": submitted("l1", 5, f"{LONG} new", document_id="b"),
    "an update": submitted("l2", 5, f"{LONG} changed", document_id="c"),
    "the same text": submitted("l3", 5, f"{LONG} d", document_id="d"),
    "a withdrawal": withdrawn("l4", 5, document_id="f"),
}
Step = Callable[[], None]


class InThisThread(ThreadPoolExecutor):
    """Runs calls in the calling thread: the hand-over to another thread would take longer than the calls."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done = Future[Any]()
        try:
            done.set_result(function(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - as a thread does it
            done.set_exception(error)
        return done


LOOP = asyncio.Runner(loop_factory=asyncio.new_event_loop)
"""One loop for all rooms: making a loop takes longer than what it runs here, thousands of times."""
LOOP.get_loop().set_default_executor(InThisThread())
atexit.register(LOOP.close)


class SmallPages(MemoryDocuments):
    """Calls ``step`` before each page, and returns at most two documents at a time."""

    step: Step

    def page(self, after: Key | None, limit: int) -> list[tuple[DocumentState, DocumentSubmitted | None]]:
        self.step()
        return super().page(after, min(limit, 2))


class Writer(IndexWriter):
    """Calls ``step`` before and after it writes."""

    step: Step

    def write(self, index: Index, versions: Sequence[Version]) -> dict[Key, int]:
        self.step()
        counts = super().write(index, versions)
        self.step()
        return counts


class RebuildRoom:
    """An indexer with documents, and a rebuild that calls back at each of its steps."""

    def __init__(self, folder: Path) -> None:
        self.room, self.folder, self.steps = Room(), folder, 0
        folder.mkdir()
        self.deliver(*LIBRARY)

    def deliver(self, *events: Received[DocumentEvent]) -> None:
        LOOP.run(self.room.deliver(*events))

    def build(self, wanted: Index = NEW, at: Mapping[int, Step] | None = None) -> Built:
        """``at``: what to call at which step, by the number of the step."""
        self.steps = 0

        def step() -> None:
            self.steps += 1
            if at is not None and self.steps in at:
                at[self.steps]()

        @contextmanager
        def transaction() -> Iterator[None]:
            step()
            with self.room.database.transaction():
                yield
                step()
            step()

        documents = SmallPages(self.room.database)
        writer = Writer(Always(self.room.embedder), self.room, self.room.vectors, lambda: START, read_html=read_html)
        documents.step = writer.step = step
        return IndexBuilder(
            writer=writer,
            documents=documents,
            indexes=self.room.indexes,
            retired=self.room.retired,
            transaction=transaction,
            now=lambda: START,
            folder=self.folder,
            progress=lambda done, text: None,
        ).build(wanted)

    def picture(self) -> tuple[object, ...]:
        """Returns everything that must not depend on what happened during the rebuild."""
        self.room.sweep(START)
        with self.room.database.table("documents") as documents, self.room.database.table("retired_versions") as gone:
            return dict(documents), dict(gone), self.room.stores["new"].chunks, self.states()

    def states(self) -> dict[str, str]:
        return {each.index_id: each.state for each in self.room.indexes.all()}


def outside_transactions(room: RebuildRoom) -> list[int]:
    """Returns the steps of an undisturbed build at which no transaction is open."""
    free: list[int] = []

    def watch() -> None:
        if room.room.database.current is None:
            free.append(room.steps)

    room.build(at=dict.fromkeys(range(1, 1000), watch))
    return free


class Slow:
    """A worker that commits late, and delivers again when the commit is refused."""

    def __init__(self, rebuild: RebuildRoom, event: Received[DocumentEvent]) -> None:
        self.rebuild, self.event, self.refused = rebuild, event, False

    def index(self) -> None:
        self.outcomes = LOOP.run(self.rebuild.room.indexer.index([self.event]))

    def commit(self) -> None:
        try:
            self.rebuild.room.commit([(self.event, self.outcomes[0])])
        except Unavailable:
            self.refused = True
            self.rebuild.deliver(self.event)
