"""A released adapter that cannot be served stops neither the answerer nor another task nor search."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.wiring.run import AGENTS
from infra.kafka import RecordPublisher, kafka_connection
from infra.settings import load
from schemas.event import Event, JsonObject
from schemas.promotions import AdapterPromoted, AdapterRolledBack
from tests.fixtures.stack import Home
from tests.flows.test_question_to_interaction import _event, _lines
from tests.flows.waiting import until
from tests.infra.test_private_files import readable_by_others

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
NEEDED = ("answerer", "indexer")
WORKERS = ("--workers", ",".join(f"{agent}=0" for agent in AGENTS if agent not in NEEDED))
PAGE = {"id": "opening", "title": "Opening hours", "text": "The museum opens at ten, except on Mondays."}


@pytest.fixture
def home(models_folder: Path, tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home", models_folder)
    yield made
    made.close()


def send(home: Home, *events: Event) -> None:
    with RecordPublisher(kafka_connection(load(home.path, environ={}))) as publisher:
        publisher.publish([_event(each) for each in events])


def routed(home: Home) -> JsonObject:
    (answer,) = home.json("ask", "Where is my parcel?", "--task", "routing", "--max-tokens", "8")
    return answer


def detail(home: Home) -> str:
    (worker,) = [each for each in home.status()["workers"] if each["agent"] == "answerer"]
    return worker["detail"] or ""


def restart(home: Home) -> None:
    home.run("down")
    assert "ready in" in home.run("up", "--detach", *WORKERS).stdout


def assert_all_else_works(home: Home) -> None:
    """Another task answers from its documents, search finds them, and everything is ready."""
    assert home.status()["ready"] is True
    (answer,) = home.json("ask", "When does the museum open?", "--task", "support", "--max-tokens", "8")
    assert answer["sources"][0]["document_id"] == "opening"
    assert answer["text"]
    (found,) = home.json("search", "When does the museum open?")
    assert found["hits"][0]["document_id"] == "opening"


def test_a_release_that_cannot_be_served_is_named_and_stops_nothing_else(
    home: Home, random_adapters: dict[str, Path]
) -> None:
    home.run("up", "--detach", *WORKERS)
    home.run("publish", "documents", "-", "--wait", stdin=_lines([PAGE]))
    adapter_id = random_adapters["red"].name
    folder = load(home.path, environ={}).adapters_folder / adapter_id
    shutil.copytree(random_adapters["red"], folder)
    base = routed(home)["text"]
    send(home, AdapterPromoted(task="routing", sequence=1, champion=adapter_id))
    adapted = until(lambda: answer if (answer := routed(home)).get("adapter_id") else None, every=0.6)["text"]
    assert adapted != base

    folder.rename(folder.with_name("away"))
    restart(home)
    problem = until(lambda: detail(home), every=0.6)
    assert problem.startswith("routing: release 1 is not served, the base model answers: ")
    assert problem.endswith(f"{adapter_id} is not in {folder.parent}: train it again, or roll back")
    assert_all_else_works(home)
    answer = routed(home)
    assert (answer.get("adapter_id"), answer["release_sequence"], answer["text"]) == (None, 0, base)

    folder.with_name("away").rename(folder)
    back = until(lambda: answer if (answer := routed(home)).get("adapter_id") else None, every=0.6)
    assert (back["adapter_id"], back["release_sequence"], back["text"]) == (adapter_id, 1, adapted)
    until(lambda: not detail(home), every=0.6)

    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    restart(home)
    problem = until(lambda: detail(home), every=0.6)
    assert "routing: release 1 is not served, the base model answers: " in problem
    assert "were changed" in problem
    assert_all_else_works(home)
    assert routed(home).get("adapter_id") is None

    send(home, AdapterRolledBack(task="routing", sequence=2, champion=None))
    until(lambda: not detail(home), every=0.6)
    answer = routed(home)
    assert (answer.get("adapter_id"), answer["release_sequence"], answer["text"]) == (None, 2, base)
    assert_all_else_works(home)
    assert readable_by_others(home.path) == set(), "whatever the umask of whoever typed 'everlearn up'"
