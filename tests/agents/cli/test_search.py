"""``everlearn search``, and how both it and ``ask`` say where and how is searched."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.sql.database import Database
from infra.sql.documents import SqlDocuments
from schemas.features import DocumentState
from tests.agents.cli.conftest import Everlearn, write_lines
from tests.agents.cli.peers import Peer, asked


def test_a_search_gives_hits_in_the_order_of_the_queries(everlearn: Everlearn, answerer: Peer, tmp_path: Path):
    path = write_lines(
        tmp_path / "q.jsonl", {"query_id": "b", "text": "beta"}, {"query_id": "a", "text": "alpha"}, {"text": "fail"}
    )
    result = everlearn("search", "--queries", path, "-k", "2", "--json")
    assert result.code == 1
    *found, failed = result.lines
    hit = {"document_id": "d1", "chunk_id": "d1/0", "score": 0.5, "title": "A title", "heading": None, "uri": None}
    assert found == [
        {"query_id": "b", "hits": [{**hit, "text": "about beta"}] * 2},
        {"query_id": "a", "hits": [{**hit, "text": "about alpha"}] * 2},
    ]
    assert (failed["hits"], failed["reason"]) == ([], "the engine\nis tired")
    questions = asked(answerer)
    assert {(each.task, each.retrieve_only, each.top_k) for each in questions} == {("support", True, 2)}


def test_a_search_for_people_shows_score_document_and_text(everlearn: Everlearn, answerer: Peer):
    result = everlearn("search", "alpha", "-k", "1")
    assert result.out.splitlines() == [" 0.500  A title  (d1)", "        about alpha"]


def test_a_source_is_shown_with_the_headings_above_it(everlearn: Everlearn, answerer: Peer):
    assert everlearn("search", "part").out.splitlines()[0] == " 0.500  A title > Part  (d1)"
    assert everlearn("search", "part", "--json").lines[0]["hits"][0]["heading"] == "A title > Part"
    assert "  [1] A title > Part  0.500" in everlearn("ask", "part").out.splitlines()


def test_mode_and_filter_travel_with_the_question_and_a_line_may_have_its_own(
    everlearn: Everlearn, answerer: Peer, tmp_path: Path
):
    where = 'lang = "en" and year >= 2024'
    lines = write_lines(tmp_path / "q.jsonl", {"text": "one"}, {"text": "two", "mode": "text", "filter": "a = 1"})
    for command, option in (("ask", "--questions"), ("search", "--queries")):
        assert everlearn(command, "x", "--mode", "dense", "--filter", where, "--task", "support").code == 0
        assert everlearn(command, option, lines, "--filter", where).code == 0
    asked_for = Counter((each.text, each.mode, each.filter) for each in asked(answerer))
    assert asked_for == {("x", "dense", where): 2, ("one", None, where): 2, ("two", "text", "a = 1"): 2}


@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_filter_that_cannot_be_read_is_misuse_that_shows_where(everlearn: Everlearn, answerer: Peer, command: str):
    result = everlearn(command, "x", "--filter", "year >= twenty")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert 'character 9: expected a "text", a number, true or false, found twenty' in result.err
    assert everlearn(command, "x", "--mode", "fast").code == 2
    assert everlearn(command, "x", "--filter", "").code == 2
    assert asked(answerer) == []


def test_a_line_with_a_wrong_filter_or_mode_is_named_and_the_others_go(
    everlearn: Everlearn, answerer: Peer, tmp_path: Path
):
    path = write_lines(
        tmp_path / "q.jsonl", {"text": "one", "filter": "a ="}, {"text": "two", "mode": "fast"}, {"text": "three"}
    )
    for command, option in (("ask", "--questions"), ("search", "--queries")):
        result = everlearn(command, option, path, "--json")
        assert (result.code, len(result.lines)) == (1, 1)
        first, second, _ = result.err.splitlines()
        assert first.startswith(f"{path}:1: filter: character 4: expected a ")
        assert second.startswith(f"{path}:2: mode: ")


def test_a_search_that_finds_nothing_says_whether_the_tenant_has_documents(
    everlearn: Everlearn, answerer: Peer, database_url: str
):
    empty = everlearn("search", "nothing", "--tenant", "acme")
    assert (empty.code, empty.out) == (0, "no hits\n")
    assert empty.err.startswith("the tenant acme has no documents: publish some with")
    database = Database(database_url)
    state = DocumentState(
        tenant="acme", document_id="d", version="v", content_hash="h", chunk_count=1, embedding_model="m", title=None,
        uri=None, submitted_at=datetime(2026, 1, 1, tzinfo=UTC), event_id="e",
    )  # fmt: skip
    SqlDocuments(database).put(state)
    database.close()
    assert everlearn("search", "nothing", "--tenant", "acme").err == ""
    assert everlearn("search", "nothing", "--json").err.startswith("the tenant default has no documents")
