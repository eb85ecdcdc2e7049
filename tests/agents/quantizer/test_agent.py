"""The quantizer's decisions: which runs a registered model leads to, and what is told of their ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from agents.delivery.outcome import Outcome
from agents.delivery.worker import dispatcher
from agents.quantizer.agent import KIND, Quantizer
from agents.quantizer.schemes import Measured, existing, reason_to_refuse, source_of
from schemas.delivery import Claim
from schemas.envelope import Position, Received, new_context
from schemas.errors import InvalidEvent
from schemas.event import Event
from schemas.models import ModelQuantized, ModelRegistered
from schemas.policies import QuantizerPolicy
from schemas.registry import ModelRecord

NOW = datetime(2026, 5, 1, tzinfo=UTC)
QUANTIZED = ModelQuantized(
    name="m",
    version="2",
    scheme="int8",
    size_bytes=4,
    source_version="1",
    source_size_bytes=9,
    loss=3.9,
    source_loss=3.8,
)


def received(event: Event) -> Received[Event]:
    return Received(event=event, context=new_context("/t", now=NOW, event_id="e"), position=Position("models.v1", 0, 0))


def registered(**changes: object) -> ModelRegistered:
    return ModelRegistered(**{"name": "m", "version": "1", **changes})


async def quantize(event: Event) -> Outcome:
    quantizer = Quantizer(schemes=("int8", "nf4"), settings_location={"config": None}, notice=lambda _: None)
    (outcome,) = await dispatcher("quantizer", quantizer.handlers())([received(event)])
    return outcome


async def test_a_registered_model_is_quantized_to_every_configured_scheme():
    outcome = await quantize(registered())
    assert [(run.kind, run.arguments["scheme"]) for run in outcome.runs] == [(KIND, "int8"), (KIND, "nf4")]
    assert outcome.runs[0].arguments == {"config": None, "name": "m", "version": 1, "scheme": "int8"}


async def test_the_same_event_twice_asks_for_the_same():
    assert await quantize(registered()) == await quantize(registered())


async def test_a_request_may_name_its_schemes_or_none():
    assert [run.arguments["scheme"] for run in (await quantize(registered(quantize=("nf4", "nf4")))).runs] == ["nf4"]
    assert not (await quantize(registered(quantize=()))).runs


async def test_a_quantized_model_is_not_quantized_again():
    assert not (await quantize(registered(scheme="int8"))).runs


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (registered(quantize=("int8", "int2")), "no scheme int2: choose from int8, nf4"),
        (registered(version="one"), "version 'one' of m is not a number"),
        (QUANTIZED, "does not read everlearn.model.quantized.v1"),
    ],
)
async def test_what_cannot_be_done_is_refused_at_once(event, reason):
    with pytest.raises(InvalidEvent, match=reason):
        await quantize(event)


def test_the_end_of_a_run_is_told_only_where_there_is_something_new():
    notices: list[Mapping[str, str]] = []
    quantizer = Quantizer(schemes=("int8",), settings_location={}, notice=notices.append)
    claim = Claim(run_id="r", kind=KIND, arguments={"name": "m", "version": 1, "scheme": "int8"}, context={}, attempt=1)
    told = quantizer.done(claim, {"quantized": QUANTIZED.model_dump(mode="json"), "location": "/x"})
    assert [output.event for output in told.outputs] == [QUANTIZED]
    assert not quantizer.done(claim, {"reason": "it is there already"}).outputs
    assert not quantizer.failed(claim, "it died").outputs
    assert [(each["name"], each["scheme"], each["reason"]) for each in notices] == [
        ("m", "int8", "it is there already"),
        ("m", "int8", "it died"),
    ]


def record(version: int, scheme: str | None = None, source: int | None = None) -> ModelRecord:
    return ModelRecord(
        name="m", location="/m", size_bytes=9, created_at=NOW, version=version, scheme=scheme, source_version=source
    )


def test_only_a_version_as_it_came_can_be_quantized():
    records = [record(1), record(2, "int8", 1)]
    assert source_of(records, 1) == records[0]
    assert "quantized already (int8)" in str(source_of(records, 2))
    assert "no version 3 of it: add the model" in str(source_of(records, 3))
    assert existing(records, 1, "int8") == records[1]
    assert existing(records, 1, "nf4") is None


POLICY = QuantizerPolicy(max_loss_rise=1.0)
SOUND = Measured(size_bytes=4, loss=3.9, source_size_bytes=9, source_loss=3.8, sample="has been used")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss": float("nan")}, "not a number"),
        ({"source_loss": float("nan")}, "the source's own loss on general text is not a number"),
        ({"loss": float("inf")}, "not a number"),
        ({"loss": 18.7}, "is 18.70 nats per token, the source's 3.80: the rise is more than 1"),
        ({"sample": " \n"}, "generates no text"),
        ({"size_bytes": 9}, "it is not smaller"),
    ],
)
def test_a_damaged_quantized_model_is_found_out(changes, reason):
    assert reason in str(reason_to_refuse(Measured(**{**vars(SOUND), **changes}), POLICY))


def test_a_sound_one_may_lose_a_little():
    assert reason_to_refuse(SOUND, POLICY) is None
    assert reason_to_refuse(Measured(**{**vars(SOUND), "loss": 4.8}), POLICY) is None
