"""Every bad adapter is refused in one line that says why, before any model is asked."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from infra.adapters.files import Card, install, read_card, write_card
from tests.agents.validator.validation_room import Room


@pytest.fixture
def room(tmp_path, random_adapters):
    return Room(tmp_path, random_adapters)


@pytest.fixture
def red(random_adapters):
    return random_adapters["red"].name


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
