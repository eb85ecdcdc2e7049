"""The validator: one run for each adapter, told once, and what it was judged on remembered with its acceptance."""

import json
from itertools import count

import pytest

from agents.delivery.outbox import Cause, Outbox
from agents.delivery.outcome import NOTHING
from agents.delivery.worker import dispatcher
from agents.validator.agent import Validator
from agents.wiring.validator import build
from infra.memory.retention import MemoryRetention
from infra.settings import Settings
from schemas.datasets import DATASET_ROW
from schemas.envelope import Position, Received, decode, new_context
from schemas.errors import InvalidEvent
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, DriftDetected, TrainingDeclined
from schemas.promotions import AdapterPromoted, AdapterRolledBack
from tests.agents.delivery.rig import Rig
from tests.agents.validator.room import NOW, ROUTING, row, rows

offsets = count()


def received(event, topic="adapters.v1"):
    number = next(offsets)
    context = new_context("/tests", now=NOW, event_id=f"e{number}")
    return Received(event=event, context=context, position=Position(topic, 0, number))


def trained(adapter_id="a1", task="routing"):
    return AdapterTrained(task=task, adapter_id=adapter_id, base_model="memory", dataset_id="d1", run_id="t1")


class Room:
    def __init__(self, tasks=(ROUTING,)):
        self.rig = Rig()
        self.rejected: list[tuple[str, ...]] = []
        self.suite = MemoryRetention(self.rig.database)
        self.validator = Validator(
            tasks={task.name: task for task in tasks},
            runs=self.rig.runs,
            suite=self.suite,
            reject=lambda adapter_id, reasons: self.rejected.append((adapter_id, *reasons)),
            settings_location={"config": None},
        )
        self.handle = dispatcher("validator", self.validator.handlers())
        self.outbox = Outbox(
            "validator", database=self.rig.database, journal=self.rig.journal, runs=self.rig.runs,
            publisher=self.rig.kafka, clock=self.rig.clock,
        )  # fmt: skip

    async def send(self, event):
        got = received(event)
        (outcome,) = await self.handle([got])
        await self.outbox.settle([Cause(identity=got.identity, context=got.context)], [outcome], {})

    async def end(self, **result):
        """The run that is due ends so; see ``fail`` for the other end."""
        claim = self._claim()
        values = {"accepted": True, "reasons": [], "scores": {"current.candidate": 0.9}, "report_uri": "file:///r",
                  "at": NOW.isoformat(), "rows": []}  # fmt: skip
        outcome = self.validator.done(claim, json.loads(json.dumps({**values, **result})))
        await self._finish(claim, "done", {**values, **result}, outcome)

    async def fail(self, reason):
        claim = self._claim()
        await self._finish(claim, "failed", {}, self.validator.failed(claim, reason))

    def _claim(self):
        claim = self.rig.runs.claim("validator", "w", now=self.rig.clock(), lease_seconds=30)
        assert claim is not None
        return claim

    async def _finish(self, claim, state, result, outcome):
        self.rig.runs.finish(claim.run_id, claim.attempt, state=state, result=result, now=self.rig.clock())
        context = new_context("/everlearn/validator/runs", now=NOW, event_id=f"end-{claim.run_id}")
        await self.outbox.settle([Cause(identity=context.id, context=context)], [outcome], {})

    def requested(self):
        return [run.arguments for run in self.rig.runs.unfinished("validator")]

    def said(self):
        return [
            decode("validations.v1", record.value, record.headers, now=NOW)[0]
            for record in self.rig.kafka.topic("validations.v1")
        ]


@pytest.fixture
def room():
    return Room()


async def test_a_trained_adapter_is_validated_against_the_champion_of_its_task(room):
    await room.validator.follow(received(AdapterPromoted(task="routing", sequence=3, champion="a0")))
    await room.validator.follow(received(AdapterRolledBack(task="routing", sequence=2, champion="older")))
    await room.validator.follow(received(AdapterPromoted(task="support", sequence=9, champion="other")))
    await room.send(trained())
    assert room.requested() == [
        {"config": None, "task": "routing", "adapter_id": "a1", "dataset_id": "d1", "champion": "a0", "earlier": []}
    ]
    assert room.said() == []


async def test_a_declined_training_needs_no_reaction(room):
    declined = received(TrainingDeclined(task="routing", reason="too few rows"))
    assert await room.handle([declined]) == [NOTHING]


async def test_an_event_of_another_topic_is_a_dead_letter(room):
    with pytest.raises(InvalidEvent, match="does not read"):
        await room.handle([received(DriftDetected(task="routing", kind="quality", remedy="none"))])


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (ROUTING.model_copy(update={"name": "other"}), "there is no task 'routing': choose from other"),
        (ROUTING.model_copy(update={"metric": None}), "the task routing names no metric: set metric in"),
        (ROUTING.model_copy(update={"metric": "bleu"}), "names the metric bleu, which is unknown"),
    ],
)
async def test_what_cannot_be_examined_is_rejected_at_once(task, reason):
    room = Room([task])
    await room.send(trained())
    (event,) = room.said()
    assert isinstance(event, AdapterRejected)
    assert reason in event.reasons[0]
    assert room.requested() == []


async def test_an_accepted_adapter_is_told_and_its_rows_join_the_retention_suite(room):
    await room.send(trained())
    await room.end(rows=[DATASET_ROW.dump_python(each, mode="json") for each in rows(4)])
    (event,) = room.said()
    assert event == AdapterValidated(
        task="routing", adapter_id="a1", scores={"current.candidate": 0.9}, report_uri="file:///r"
    )
    assert sorted(each.row_id for each in room.suite.rows("routing", 9)) == ["r0", "r1", "r2", "r3"]


async def test_a_rejected_adapter_is_told_with_its_reasons_and_leaves_no_rows(room):
    await room.send(trained())
    await room.end(
        accepted=False, reasons=["no better", "worse elsewhere"], rows=[DATASET_ROW.dump_python(row(1), mode="json")]
    )
    (event,) = room.said()
    assert isinstance(event, AdapterRejected)
    assert (event.reasons, event.report_uri) == (("no better", "worse elsewhere"), "file:///r")
    assert room.suite.rows("routing", 9) == []


async def test_a_run_that_failed_rejects_the_adapter_and_the_next_training_of_it_is_examined_again(room):
    await room.send(trained())
    await room.fail("exit code -9")
    (event,) = room.said()
    assert event.reasons == ("could not be validated: exit code -9",)
    assert room.rejected == [("a1", "could not be validated: exit code -9")]
    await room.send(trained())
    assert len(room.requested()) == 1


async def test_an_adapter_is_examined_once_however_often_it_is_trained(room):
    await room.send(trained())
    await room.send(trained())
    assert len(room.requested()) == 1
    await room.end()
    await room.send(trained())
    assert room.requested() == []
    assert [type(event) for event in room.said()] == [AdapterValidated] * 2
    assert room.said()[0] == room.said()[1]


async def test_the_candidates_that_were_judged_against_this_champion_are_named_to_the_run(room):
    def tried(adapter_id):
        return trained(adapter_id).model_copy(update={"dataset_id": f"d-{adapter_id}"})

    await room.validator.follow(received(AdapterPromoted(task="routing", sequence=3, champion="a0")))
    await room.send(tried("n1"))
    await room.end(accepted=False, reasons=["no better"], scores={"current.rows": 30.0}, tries=1, level=0.03)
    await room.send(tried("n2"))
    await room.end(accepted=False, reasons=["its files were changed"], scores={})
    await room.send(tried("n3"))
    await room.fail("exit code -9")
    await room.send(tried("n4"))
    await room.send(tried("n5"))
    (earlier,) = [run["earlier"] for run in room.requested() if run["adapter_id"] == "n5"]
    assert sorted(earlier) == ["d-n1", "d-n4"]
    assert (room.said()[0].tries, room.said()[0].level) == (1, 0.03)
    assert room.said()[1].tries is None
    await room.validator.follow(received(AdapterPromoted(task="routing", sequence=4, champion="n4")))
    await room.send(tried("n6"))
    assert [run["earlier"] for run in room.requested() if run["adapter_id"] == "n6"] == [[]]


async def test_the_champion_itself_is_no_candidate(room):
    await room.validator.follow(received(AdapterPromoted(task="routing", sequence=3, champion="a1")))
    await room.send(trained())
    assert room.said()[0].reasons == ("it is the champion already",)
    assert room.requested() == []


def test_a_row_survives_the_way_through_a_runs_result():
    each = row(1, sources=({"text": "t", "score": 0.5},), fresh=False)
    assert DATASET_ROW.validate_python(json.loads(json.dumps(DATASET_ROW.dump_python(each, mode="json")))) == each


def test_an_adapter_whose_event_is_given_up_is_rejected(tmp_path):
    told = build(Settings(home=tmp_path)).given_up[AdapterTrained]
    (output,) = told(received(trained()), "it broke")
    assert output.event == AdapterRejected(
        task="routing", adapter_id="a1", reasons=("could not be validated: it broke",)
    )
