"""A validation run whole: what makes an adapter pass, what does not, and what is there afterwards."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from agents.validator.evaluation import general_texts
from agents.validator.report import verdict_event
from infra.adapters.files import read_probes
from schemas.datasets import DATASET_ROW
from schemas.learning import AdapterRejected
from tests.agents.validator.room import LABELS, NOW, ScriptedEngine, knows, row, rows
from tests.agents.validator.validation_room import Datasets, Room


@pytest.fixture
def room(tmp_path, random_adapters):
    return Room(tmp_path, random_adapters)


@pytest.fixture
def red(random_adapters):
    return random_adapters["red"].name


@pytest.fixture
def blue(random_adapters):
    return random_adapters["blue"].name


def test_a_good_adapter_is_accepted_judged_probed_and_reported(room, red):
    (room.folder_of(red) / "probes.json").unlink()
    result = json.loads(json.dumps(room.run(red)))
    assert (result["accepted"], result["reasons"]) == (True, [])
    assert result["scores"]["current.candidate"] == 1.0
    assert sorted(DATASET_ROW.validate_python(each).row_id for each in result["rows"]) == sorted(
        each.row_id for each in rows()
    )
    assert [probe.output in LABELS for probe in read_probes(room.folder_of(red))] == [True] * 4
    record = room.registry.find(red)
    assert (record.state, record.report_uri) == ("validated", result["report_uri"])
    page = Path(result["report_uri"].removeprefix("file://"))
    assert page == room.settings.reports_folder / "validation" / "routing" / f"{red}.html"
    assert "<strong>Accepted</strong>" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["scores"] == result["scores"]
    assert json.loads((room.folder / "progress.json").read_text())["done"] == 0.98


def test_a_worse_adapter_is_rejected_with_figures_and_stays_unprobed(room, red, blue):
    (room.folder_of(red) / "probes.json").unlink()
    result = room.run(red, champion=blue, engine=ScriptedEngine(knows(blue)))
    assert not result["accepted"]
    assert "exact_match is 0.000 on 30 rows held out, against 1.000 of the champion" in result["reasons"][0]
    assert result["rows"] == []
    assert read_probes(room.folder_of(red)) == ()
    assert room.registry.find(red).state == "rejected"
    assert "<strong>Rejected</strong>" in Path(result["report_uri"].removeprefix("file://")).read_text()


def test_a_task_may_have_a_gate_of_its_own(room, red):
    task = room.settings.tasks["routing"].model_copy(update={"validator": {"current_rows": 4}})
    room.settings = room.settings.model_copy(update={"tasks": {"routing": task}})
    result = room.run(red)
    assert not result["accepted"]
    assert "on 4 rows held out" in result["reasons"][0]


def test_what_earlier_adapters_were_judged_on_must_not_be_forgotten(room, red, blue):
    def script(adapter_id, text):
        old = int(text.split()[-1]) >= 100
        return knows("any")("any", text) if (adapter_id == blue) == old and adapter_id else "nothing"

    room.suite.add("routing", [row(number, LABELS[number % 3]) for number in range(100, 120)], "d0", NOW)
    result = room.run(red, champion=blue, engine=ScriptedEngine(script))
    forgotten, flips = result["reasons"]
    assert "exact_match is 0.000 on 20 rows of the retention suite, against 1.000" in forgotten
    assert "20 of 50 rows turned from right to wrong against the champion (40.0%)" in flips
    assert result["scores"]["retention.champion"] == 1.0


def test_an_adapter_that_spoils_general_text_is_rejected(room, red):
    result = room.run(red, engine=ScriptedEngine(knows(red), {red: 3.9}))
    assert result["reasons"] == [
        "the loss on general text is 3.900 nats per token, against 3.000 of the base model: +0.900, where +0.250 is "
        "allowed"
    ]


def no_json(text):
    pytest.fail(f"{text} is not JSON")


def told(result):
    """The event of a result that has gone through the file of its run, and the report's page and JSON."""
    result = json.loads(json.dumps(result, allow_nan=False))
    page = Path(result["report_uri"].removeprefix("file://"))
    report = json.loads(page.with_suffix(".json").read_text(), parse_constant=no_json)
    return verdict_event({"task": "routing", "adapter_id": "a"}, result).event, report


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_an_adapter_whose_loss_is_no_number_is_rejected_with_a_plain_reason(room, red, loss):
    event, report = told(room.run(red, engine=ScriptedEngine(knows(red), {red: loss})))
    assert isinstance(event, AdapterRejected)
    assert event.reasons == (
        "the loss on general text is no number: the adapter's weights are too large to compute with",
    )
    assert "general_loss.candidate" not in event.scores
    assert report["scores"] == event.scores
    assert room.registry.find(red).scores == event.scores


def test_a_base_model_whose_loss_is_no_number_is_measured_again_each_time(room, red, blue):
    for adapter_id in (red, blue):
        event, _ = told(room.run(adapter_id, engine=ScriptedEngine(knows(adapter_id), {None: float("nan")})))
        assert "general_loss.base" not in event.scores
    assert not (room.folder / "general-loss.json").exists()


def test_finite_weights_that_overflow_are_rejected_on_the_real_model(room, red, transformers_engine):
    made = room.folder / "made"
    shutil.copytree(room.folder_of(red), made)
    tensors = load_file(made / "adapter_model.safetensors")
    save_file({name: torch.full_like(each, 1e25) for name, each in tensors.items()}, made / "adapter_model.safetensors")
    room.datasets = Datasets(d1=rows(6))
    result = room.run(room.adopt(made), engine=transformers_engine, texts=general_texts()[:4])
    event, _ = told(result)
    assert isinstance(event, AdapterRejected)
    assert any("is no number" in reason for reason in event.reasons)


def test_the_base_models_loss_on_general_text_is_worked_out_once(room, red, blue):
    room.run(red, engine=ScriptedEngine(knows(red), {None: 3.5, red: 3.6}))
    result = room.run(blue, engine=ScriptedEngine(knows(blue), {None: 99.0, blue: 3.9}))
    assert (result["scores"]["general_loss.base"], result["scores"]["general_loss.candidate"]) == (3.5, 3.9)
    assert "against 3.500 of the base model: +0.400" in result["reasons"][0]


def test_limits_on_rows_bound_what_is_generated(tmp_path, random_adapters, red):
    room = Room(tmp_path, random_adapters, current_rows=8, retention_rows=5)
    room.suite.add("routing", [row(number, LABELS[number % 3]) for number in range(100, 130)], "d0", NOW)
    result = room.run(red)
    assert (result["scores"]["current.rows"], result["scores"]["retention.rows"]) == (8, 5)


def test_an_adapter_bigger_than_allowed_is_refused(tmp_path, random_adapters, red):
    result = Room(tmp_path, random_adapters, max_adapter_bytes=1000).run(red)
    assert "bytes, and 1000 are allowed" in result["reasons"][0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset_id": "gone"}, "the dataset gone is not here"),
        ({"dataset_id": "few"}, "no held-out rows"),
        ({"champion": "0" * 32}, "there is no champion to compare it with: "),
    ],
)
def test_what_cannot_be_measured_is_refused(room, red, changes, reason):
    result = room.run(red, **changes)
    assert not result["accepted"]
    assert reason in result["reasons"][0]


def test_a_registry_that_is_away_is_waited_for(room, red):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        room.registry.away = False

    room.registry.away = True
    assert room.run(red, sleep=sleep)["accepted"]
    assert len(waited) == 1


def test_random_adapters_are_refused_on_the_real_model(room, red, blue, transformers_engine):
    room.datasets = Datasets(d1=rows(6))
    result = room.run(red, champion=blue, engine=transformers_engine, texts=general_texts()[:4])  # less to read
    assert not result["accepted"]
    gain, general = result["reasons"]
    assert "exact_match is 0.000 on 6 rows held out" in gain
    assert "nats per token" in general
    assert result["scores"]["general_loss.candidate"] > result["scores"]["general_loss.base"] + 1
    assert 2 < result["scores"]["general_loss.base"] < 4
