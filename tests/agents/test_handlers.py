"""Every agent's table of handlers holds only events of the topics that the topic table gives this agent."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.delivery.worker import Handlers
from agents.indexer.rebuild_requests import Rebuilds
from agents.wiring.run import AGENTS
from infra.memory.runs import MemoryRunStore
from infra.settings import Settings
from schemas.policies import MilvusSettings
from schemas.topics import BY_NAME, followed_by, read_by
from tests.agents.answerer.room import Room as AnswererRoom
from tests.agents.indexer.room import Room as IndexerRoom


def of_indexer(folder: Path) -> Handlers:
    room = IndexerRoom()
    rebuilds = Rebuilds(
        agent="indexer",
        own_scopes=(),
        runs=MemoryRunStore(room.database),
        indexes=room.indexes,
        settings_location={},
    )
    return {**room.indexer.handlers(), **rebuilds.handlers()}


def of_answerer(folder: Path) -> Handlers:
    return AnswererRoom(folder).answerer.handlers()


LOADS_MODELS: dict[str, Callable[[Path], Handlers]] = {"indexer": of_indexer, "answerer": of_answerer}
"""The rooms whose workers load models, on memory twins. The other workers are built as they really are."""


def handlers_of(agent: str, folder: Path) -> Handlers:
    if agent in LOADS_MODELS:
        return LOADS_MODELS[agent](folder)
    settings = Settings(home=folder, milvus=MilvusSettings(uri="http://127.0.0.1:1"))
    worker = importlib.import_module(f"agents.wiring.{agent}").build(settings)
    assert worker.topics == read_by(agent)
    assert tuple(each.topic for each in worker.followers) == followed_by(agent)
    return worker.handlers  # type: ignore[no-any-return]  # the module is found by its name


@pytest.mark.parametrize("agent", AGENTS)
def test_a_room_handles_only_events_that_its_agent_reads(agent: str, tmp_path: Path) -> None:
    handlers = handlers_of(agent, tmp_path)
    readable = {event for topic in read_by(agent) for event in BY_NAME[topic].events}
    assert handlers
    assert handlers.keys() <= readable


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_handles_something_of_each_of_its_topics(agent: str, tmp_path: Path) -> None:
    handled = set(handlers_of(agent, tmp_path))
    assert [topic for topic in read_by(agent) if not handled & set(BY_NAME[topic].events)] == []
