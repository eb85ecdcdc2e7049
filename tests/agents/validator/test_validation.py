"""A validation run whole: every bad adapter is refused with its reason, and an accepted one is ready to be served."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agents.validator.agent import row_of
from agents.wiring.validation import Parts, Validation
from infra.adapter_files import Card, install, read_card, read_probes, write_card
from infra.base_identity import BaseIdentity
from infra.memory.database import MemoryDatabase
from infra.memory.registry import MemoryRegistry
from infra.memory.retention import MemoryRetention
from infra.settings import Settings, ValidatorSettings
from schemas.datasets import DatasetManifest
from schemas.registry import AdapterRecord
from tests.agents.validator.room import LABELS, NOW, ROUTING, ScriptedEngine, knows, row, rows


class Datasets:
    """Snapshots that were put in."""

    def __init__(self, **snapshots):
        self.snapshots = snapshots

    def manifest(self, dataset_id):
        if dataset_id not in self.snapshots:
            return None
        found = self.snapshots[dataset_id]
        held = sum(each.split == "holdout" for each in found)
        return DatasetManifest(
            dataset_id=dataset_id, task="routing", created_at=NOW, train_rows=len(found) - held, holdout_rows=held,
            fresh_rows=len(found), counts={"correction": len(found)},
        )  # fmt: skip

    def rows(self, dataset_id):
        return self.snapshots[dataset_id]


class Room:
    def __init__(self, home, adapters, **validator):
        self.settings = Settings(home=home, tasks={"routing": ROUTING}, validator=ValidatorSettings(**validator))
        self.folder = home / "work" / "runs" / "r1"
        self.folder.mkdir(parents=True)
        self.registry, self.suite = MemoryRegistry(), MemoryRetention(MemoryDatabase())
        self.datasets = Datasets(d1=rows(), few=[row(1, split="train")])
        self.engine = ScriptedEngine(knows())
        card = read_card(adapters["red"])
        self.base = BaseIdentity(revision=card.base_revision, chat_template=card.chat_template)
        for name in ("red", "blue"):
            shutil.copytree(adapters[name], self.settings.adapters_folder / adapters[name].name)
            self.register(adapters[name].name)

    def register(self, adapter_id):
        self.registry.register(
            AdapterRecord(
                adapter_id=adapter_id, task="routing", base_model="smollm2-135m-instruct", dataset_id="d1",
                run_id="t1", size_bytes=1, created_at=NOW,
            )
        )  # fmt: skip

    def adopt(self, made):
        """Installs and registers an adapter as a training would have left it."""
        adapter_id, _ = install(made, self.settings.adapters_folder)
        self.register(adapter_id)
        return adapter_id

    def run(self, adapter_id, *, dataset_id="d1", champion=None, engine=None, sleep=pytest.fail):
        self.engine = engine or ScriptedEngine(knows(adapter_id))
        arguments = {"task": "routing", "adapter_id": adapter_id, "dataset_id": dataset_id, "champion": champion}
        parts = Parts(
            registry=self.registry,
            datasets=self.datasets,
            suite=self.suite,
            load=lambda: (self.engine, self.base),
            sleep=sleep,
        )
        return Validation(self.settings, arguments, self.folder, parts).run()

    def folder_of(self, adapter_id):
        return self.settings.adapters_folder / adapter_id


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
    assert sorted(row_of(each).row_id for each in result["rows"]) == sorted(each.row_id for each in rows())
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


def test_what_earlier_adapters_were_judged_on_must_not_be_forgotten(room, red, blue):
    def script(adapter_id, text):
        old = int(text.split()[-1]) >= 100
        return knows("any")("any", text) if (adapter_id == blue) == old and adapter_id else "nothing"

    room.suite.add("routing", [row(number, LABELS[number % 3]) for number in range(100, 120)], "d0", NOW)
    result = room.run(red, champion=blue, engine=ScriptedEngine(script))
    assert len(result["reasons"]) == 1
    assert "exact_match is 0.000 on 20 rows of the retention suite, against 1.000" in result["reasons"][0]
    assert result["scores"]["retention.champion"] == 1.0


def test_an_adapter_that_spoils_general_text_is_rejected(room, red):
    result = room.run(red, engine=ScriptedEngine(knows(red), {red: 3.9}))
    assert result["reasons"] == [
        "the loss on general text is 3.900 nats per token, against 3.000 of the base model: +0.900, where +0.250 is "
        "allowed"
    ]


def test_limits_on_rows_bound_what_is_generated(tmp_path, random_adapters, red):
    room = Room(tmp_path, random_adapters, current_rows=8, retention_rows=5)
    room.suite.add("routing", [row(number, LABELS[number % 3]) for number in range(100, 130)], "d0", NOW)
    result = room.run(red)
    assert (result["scores"]["current.rows"], result["scores"]["retention.rows"]) == (8, 5)


# -- sabotage ---------------------------------------------------------------------------------------------------------


def changed_byte(room, adapter_id):
    path = room.folder_of(adapter_id) / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return adapter_id


def pickled(room, adapter_id):
    (room.folder_of(adapter_id) / "adapter_model.bin").write_bytes(b"\x80\x04.")
    return adapter_id


def gone(room, adapter_id):
    shutil.rmtree(room.folder_of(adapter_id))
    return adapter_id


def a_link(room, adapter_id):
    path = room.folder_of(adapter_id) / "adapter_model.safetensors"
    path.rename(path.with_name("elsewhere"))
    os.symlink(path.with_name("elsewhere"), path)
    return adapter_id


def with_nan(room, adapter_id):
    from safetensors.torch import load_file, save_file

    made = _copy(room, adapter_id)
    tensors = load_file(made / "adapter_model.safetensors")
    tensors[next(iter(tensors))][0, 0] = float("nan")
    save_file(tensors, made / "adapter_model.safetensors")
    return room.adopt(made)


def not_plain(room, adapter_id):
    return room.adopt(_changed(_copy(room, adapter_id), use_dora=True))


def for_another_base(room, adapter_id):
    made = _copy(room, adapter_id)
    write_card(made, replace(read_card(made), base_model="org/Other-7B"))
    return room.adopt(made)


def for_another_revision(room, adapter_id):
    made = _copy(room, adapter_id)
    write_card(made, replace(read_card(made), base_revision="0" * 64))
    return room.adopt(made)


def for_another_template(room, adapter_id):
    made = _copy(room, adapter_id)
    write_card(made, replace(read_card(made), chat_template="0" * 64))
    return room.adopt(made)


def for_another_task(room, adapter_id):
    made = _copy(room, adapter_id)
    card: Card = read_card(made)
    write_card(made, replace(card, task="support"))
    return room.adopt(made)


def unregistered(room, adapter_id):
    made = _changed(_copy(room, adapter_id), lora_alpha=17)
    return install(made, room.settings.adapters_folder)[0]


def _copy(room, adapter_id):
    made = room.folder / "made"
    shutil.copytree(room.folder_of(adapter_id), made)
    return made


def _changed(made, **changes):
    path = made / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return made


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        (changed_byte, "were changed"),
        (pickled, "pickle"),
        (gone, "is not in "),
        (a_link, "is a link"),
        (with_nan, "some that are no numbers"),
        (not_plain, "is not a plain LoRA (use_dora)"),
        (for_another_base, "was trained on org/Other-7B, but smollm2-135m-instruct is served"),
        (for_another_revision, "was trained on another revision of smollm2-135m-instruct"),
        (for_another_template, "was trained with another chat template"),
        (for_another_task, "was trained for the task support, not for routing"),
        (unregistered, "is not in the registry"),
    ],
)
def test_a_bad_adapter_is_refused_in_one_line_before_any_model_is_asked(room, red, sabotage, reason):
    adapter_id = sabotage(room, red)
    result = room.run(adapter_id)
    assert not result["accepted"]
    (said,) = result["reasons"]
    assert reason in said
    assert "\n" not in said
    assert room.engine.calls == []
    assert result["scores"] == {}
    record = room.registry.find(adapter_id)
    assert record is None or (record.state, record.reasons) == ("rejected", (said,))
    assert Path(result["report_uri"].removeprefix("file://")).is_file()


def test_an_adapter_bigger_than_allowed_is_refused(tmp_path, random_adapters, red):
    result = Room(tmp_path, random_adapters, max_adapter_bytes=1000).run(red)
    assert "bytes, and 1000 are allowed" in result["reasons"][0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset_id": "gone"}, "the dataset gone is not here"),
        ({"dataset_id": "few"}, "no held-out rows"),
        ({"champion": "0" * 32}, "there is no champion to hold it against: "),
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


# -- the real model ---------------------------------------------------------------------------------------------------


def test_random_adapters_are_refused_on_the_real_model(room, red, blue, transformers_engine):
    room.datasets = Datasets(d1=rows(6))
    result = room.run(red, champion=blue, engine=transformers_engine)
    assert not result["accepted"]
    gain, general = result["reasons"]
    assert "exact_match is 0.000 on 6 rows held out" in gain
    assert "nats per token" in general
    assert result["scores"]["general_loss.candidate"] > result["scores"]["general_loss.base"] + 1
    assert 2 < result["scores"]["general_loss.base"] < 4
