"""Documents by the command line, as a user has it: bulk loads, filters, declined questions and a rebuilt index."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from schemas.event import JsonObject
from tests.fixtures.stack import RunningHome

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

TENANT = "harbour"
SHIPS = [
    {
        "id": f"ship {number}",
        "title": f"Ship {number}",
        "text": f"The ship of berth {number} carries {cargo} to port {number * 7}.\n\n" + "It sails at dawn. " * 30,
        "metadata": {"cargo": cargo, "berth": number},
    }
    for number, cargo in enumerate(["salt", "timber", "wool", "tea"] * 15)
]


def _publish(home: RunningHome, rows: list[JsonObject]) -> JsonObject:
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (report,) = home.json("publish", "documents", "-", "--tenant", TENANT, "--wait", stdin=lines)
    return report


def _search(home: RunningHome, text: str, *words: str) -> list[JsonObject]:
    (result,) = home.json("search", text, "--tenant", TENANT, *words)
    hits: list[JsonObject] = result["hits"]
    return hits


def test_a_bulk_load_is_indexed_completely_although_its_worker_is_killed(running_home: RunningHome) -> None:
    lines = "".join(f"{json.dumps(row)}\n" for row in SHIPS)
    running_home.json("publish", "documents", "-", "--tenant", TENANT, stdin=lines)
    os.kill(running_home.pids()["loader-1"], signal.SIGKILL)
    report = _publish(running_home, SHIPS)  # the same again: processed after those that the killed worker left
    assert (report["indexed"], report["missing"]) == (len(SHIPS), [])
    *documents, status = running_home.json("index", "status", "--documents")
    ships = [row for row in documents if row["tenant"] == TENANT]
    assert sorted(row["document_id"] for row in ships) == sorted(str(row["id"]) for row in SHIPS)
    assert all(row["chunks"] > 0 for row in ships)
    assert [index["state"] for index in status["indexes"]] == ["serving"]


def test_a_filter_on_metadata_selects_what_is_found(running_home: RunningHome) -> None:
    hits = _search(running_home, "what does the ship carry", "--filter", 'cargo = "tea" and berth < 20', "-k", "10")
    berths = {int(hit["document_id"].removeprefix("ship ")) for hit in hits}
    assert berths
    assert berths <= {3, 7, 11, 15, 19}
    wrong = running_home.run("search", "ship", "--tenant", TENANT, "--filter", "cargo = ", check=False)
    assert (wrong.returncode, len(wrong.stderr.strip().splitlines())) == (2, 1)


def test_a_question_that_no_document_answers_is_declined(running_home: RunningHome) -> None:
    asked = ("--task", "support", "--tenant", TENANT, "--max-tokens", "8")
    (known,) = running_home.json("ask", "What does the ship of berth 7 carry?", *asked)
    (unknown,) = running_home.json("ask", "Who won the chess championship in Reykjavik?", *asked)
    assert (known["declined"], unknown["declined"]) == (False, True)
    assert unknown["text"].startswith("I do not know")
    assert unknown.get("engine") is None


def test_an_index_is_rebuilt_with_other_chunks_while_documents_arrive(running_home: RunningHome) -> None:
    (before,) = running_home.json("index", "status")
    configuration = running_home.path / "everlearn.toml"
    written = configuration.read_text(encoding="utf-8")
    configuration.write_text(written.replace("#chunk_tokens = 220", "chunk_tokens = 40"), encoding="utf-8")
    try:
        (differs,) = running_home.json("index", "status")
        assert any("index rebuild" in line for line in differs["differences"])
        rebuilding = running_home.start("index", "rebuild", "--wait", "--json")
        _publish(running_home, [{"id": "late", "text": "The pilot boat Cormorant waits at the mole."}])
        assert _search(running_home, "pilot boat Cormorant", "-k", "1")[0]["document_id"] == "late"
        output, _ = rebuilding.communicate(timeout=240)
        assert rebuilding.returncode == 0, output
        (after,) = running_home.json("index", "status")
        serving = [index for index in after["indexes"] if index["state"] == "serving"]
        assert [index["chunk_tokens"] for index in serving] == [40]
        assert after["chunks"] > before["chunks"]
        assert _search(running_home, "pilot boat Cormorant", "-k", "1")[0]["document_id"] == "late"
        assert not after["differences"]
    finally:
        configuration.write_text(written, encoding="utf-8")


def test_a_rebuild_for_a_task_without_its_own_index_is_refused(running_home: RunningHome) -> None:
    done: subprocess.CompletedProcess[str] = running_home.run("index", "rebuild", "--task", "support", check=False)
    assert done.returncode != 0
    assert "chunk_tokens" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
