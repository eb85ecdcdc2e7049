"""``everlearn models``: what loads is registered and told, what does not is one line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.cli.models import request_quantization, wait_for_runs
from agents.cli.waiting import Deadline
from agents.quantizer import AGENT
from agents.quantizer.agent import KIND
from infra.kafka import RecordPublisher
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.runs import SqlRunStore
from schemas.envelope import EventContext, derived_id
from schemas.errors import EverlearnError
from schemas.event import Event
from schemas.kafka import KafkaConnection
from schemas.models import ModelRegistered
from schemas.registry import ModelRecord
from tests.agents.cli.conftest import Everlearn
from tests.agents.cli.peers import Peer

NOW = datetime(2026, 5, 1, tzinfo=UTC)
QUANTIZED = {
    "name": "tiny", "version": "2", "scheme": "int8", "size_bytes": 40_000_000, "source_version": "1",
    "source_size_bytes": 100_000_000, "loss": 3.9, "source_loss": 3.8,
}  # fmt: skip


@pytest.fixture
def told(kafka_config: KafkaConnection):
    with Peer(kafka_config, "models.v1", lambda _event, _context: ()) as peer:
        yield peer


def test_a_model_that_loads_is_registered_and_told(everlearn: Everlearn, registry, told: Peer, tiny_model: Path):
    assert everlearn("models", "list").out.startswith("No model is registered: add one")
    result = everlearn("models", "add", tiny_model, "--name", "tiny", "--quantize", "nf4")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == f"registered tiny as version 1: 0.3 MB in {tiny_model}"
    [record] = registry.models()
    assert (record.name, record.version, record.location) == ("tiny", 1, str(tiny_model))
    assert told.only_event() == ModelRegistered(
        name="tiny", version="1", size_bytes=record.size_bytes, quantize=("nf4",)
    )
    (again,) = everlearn("models", "add", tiny_model, "--name", "tiny", "--no-quantize", "--json").lines
    assert (again["version"], again["quantize"]) == (1, [])
    assert told.only_event().quantize == ()  # type: ignore[attr-defined]  # a ModelRegistered
    [line] = everlearn("models", "list", "--json").lines
    assert (line["name"], line["scheme"], line["size_bytes"]) == ("tiny", None, record.size_bytes)
    assert everlearn("models", "list").out.splitlines()[1].startswith("tiny   1        –       –     0.3 MB")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["/nowhere/x"], 1, "there is no such folder"),
        (["{home}"], 1, "has no config.json"),
        (["/x/..."], 2, "is no name for a model"),
        (["m", "--quantize", "int4"], 2, "there is no scheme int4: choose from int8, nf4"),
        (["m", "--quantize", "int8", "--no-quantize"], 2, "not both"),
    ],
)
def test_what_is_no_model_is_one_line_and_nothing_is_registered(
    everlearn: Everlearn, registry, told: Peer, home: Path, words, code, reason
):
    result = everlearn("models", "add", *(word.format(home=home) for word in words))
    assert result.code == code
    assert reason in result.err
    assert result.err.count("\n") == 1
    assert registry.models() == []
    assert told.seen == []


def test_nothing_is_registered_when_it_cannot_be_told(without_kafka: Everlearn, tmp_path: Path):
    result = without_kafka("models", "add", tmp_path)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert not (tmp_path / "alone" / "registry.db").exists()


def test_without_a_registry_it_is_one_line(everlearn: Everlearn):
    for words in (["models", "list"], ["adapters", "list"], ["models", "quantize", "m", "--scheme", "int8"]):
        result = everlearn(*words)
        assert (result.code, result.out) == (1, "")
        assert "has no tables yet: run 'everlearn up'" in result.err


def test_quantizing_asks_for_the_newest_version_as_it_came(everlearn: Everlearn, registry, told: Peer):
    for location, scheme in (("/a", None), ("/b", None), ("/c", "int8")):
        registry.register_model(ModelRecord(name="m", location=location, size_bytes=9, created_at=NOW, scheme=scheme))
    (asked,) = everlearn("models", "quantize", "m", "--scheme", "int8,nf4", "--json").lines
    assert (asked["version"], asked["quantize"], len(asked["runs"])) == (2, ["int8", "nf4"], 2)
    assert told.only_event() == ModelRegistered(name="m", version="2", size_bytes=9, quantize=("int8", "nf4"))
    assert "as nf4" in everlearn("models", "quantize", "m", "--scheme", "nf4", "--version", "1").out
    assert told.only_event().version == "1"  # type: ignore[attr-defined]  # a ModelRegistered
    unknown = everlearn("models", "quantize", "zz", "--scheme", "int8")
    assert "there is no model 'zz'" in unknown.err
    assert (
        "no version 3 that is not quantized"
        in everlearn("models", "quantize", "m", "--scheme", "int8", "--version", "3").err
    )


class Quantizer:
    """Stands where the quantizer does: ends the runs of a request as it is told."""

    def __init__(self, database: Database, *results: tuple[str, dict[str, object]]) -> None:
        self._runs, self._results = SqlRunStore(database), results

    def react(self, event: Event, context: EventContext) -> list[Event]:
        assert isinstance(event, ModelRegistered)
        for ordinal, (state, result) in enumerate(self._results):
            run_id = derived_id(context.source, context.id, AGENT, "run", ordinal)
            arguments = {"scheme": (event.quantize or ())[ordinal]}
            self._runs.add(AGENT, run_id, KIND, arguments, {}, datetime.now(UTC))
            self._runs.claim(AGENT, "w", now=datetime.now(UTC), lease_seconds=10)
            self._runs.report(run_id, 1, {"done": 0.5, "text": "half way", "eta_seconds": None})
            self._runs.finish(run_id, 1, state=state, result=result, now=datetime.now(UTC))
        return []


def test_waiting_shows_what_came_of_each_scheme(
    everlearn: Everlearn, registry, kafka_config: KafkaConnection, database_url: str
):
    registry.register_model(ModelRecord(name="tiny", location="/a", size_bytes=9, created_at=NOW))
    database = Database(database_url)
    quantizer = Quantizer(
        database, ("done", {"quantized": QUANTIZED}), ("done", {"reason": "tiny as nf4 failed its checks"})
    )
    with Peer(kafka_config, "models.v1", quantizer.react):
        result = everlearn("models", "quantize", "tiny", "--scheme", "int8,nf4", "--wait", "--timeout", "30")
    database.close()
    assert result.code == 1
    assert result.out == ("tiny as int8: version 2, 40.0 MB (40% of 100.0 MB), loss 3.900 after 3.800 nats per token\n")
    assert result.err.splitlines()[-2:] == [
        "tiny as nf4: tiny as nf4 failed its checks",
        "error: 1 scheme of 2 not made, as shown above",
    ]


def test_waiting_ends(settings: Settings, kafka_config: KafkaConnection, database_url: str):
    with RecordPublisher(kafka_config) as publisher:
        run_ids = request_quantization(publisher, ModelRegistered(name="m", version="1"), ("int8",))
    with pytest.raises(EverlearnError, match="has not ended within"):
        list(wait_for_runs(settings, run_ids, Deadline(0.5)))
