"""``everlearn index rebuild``: asks, shows how far it is, and ends with the new index or the indexer's reason."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.envelope import EventContext
from schemas.event import Event
from schemas.kafka import KafkaConnection
from tests.agents.cli.conftest import Everlearn
from tests.agents.cli.peers import Peer
from tests.agents.cli.test_index import OWN, configure


def rebuilds(event: Event, context: EventContext) -> Iterable[Event]:
    """An indexer: first tells of somebody else's rebuild; refuses to rebuild an index of a task."""
    assert isinstance(event, IndexRebuildRequested)
    yield IndexNotRebuilt(task=event.task, reason="not yours", cause="somebody-else")
    if event.task is not None:
        yield IndexNotRebuilt(task=event.task, reason="another is\nunder way", cause=context.id)
        return
    yield IndexRebuilt(
        index_id="i", embedding_model="m", chunk_tokens=16, overlap_tokens=0, documents=1, chunks=7, cause=context.id
    )


def test_a_rebuild_is_asked_for_and_waited_for(
    everlearn: Everlearn, home: Path, database_url: str, kafka_config: KafkaConnection
):
    configure(home, OWN)
    with Peer(kafka_config, "requests.v1", rebuilds, agent="indexer") as indexer:
        asked = everlearn("index", "rebuild", "--task", "own", "--json")
        done = everlearn("index", "rebuild", "--wait")
        shown = everlearn("index", "rebuild", "--wait", "--json")
        refused = everlearn("index", "rebuild", "--task", "own", "--wait")
    assert (asked.code, asked.lines[0]["task"]) == (0, "own")
    assert (done.code, done.out) == (0, "rebuilt the shared index: 1 document, 7 chunks by m\n")
    assert (shown.lines[0]["index_id"], shown.lines[0]["chunks"]) == ("i", 7)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "error: the index of own was not rebuilt: another is under way\n"
    assert [each.task for each in indexer.seen if isinstance(each, IndexRebuildRequested)] == ["own", None, None, "own"]


def test_a_rebuild_that_nobody_does_says_where_to_look(everlearn: Everlearn, database_url: str):
    result = everlearn("index", "rebuild", "--wait", "--timeout", "1")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "was not rebuilt within 1 s: see with 'everlearn index status' how far it is" in result.err


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("nobody", "there is no task 'nobody'"),
        ("support", "the task support has no index of its own: set chunk_tokens in [tasks.support]"),
    ],
)
def test_an_index_that_is_none_is_misuse_and_nothing_is_sent(
    everlearn: Everlearn, kafka_config: KafkaConnection, task: str, reason: str
):
    with Peer(kafka_config, "requests.v1", rebuilds) as indexer:
        result = everlearn("index", "rebuild", "--task", task)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert reason in result.err
    assert indexer.seen == []
