"""An adapter's id is its content: whoever changes a byte, leaves a file out or smuggles one in is found out."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from infra.adapters.files import (
    CARD,
    CONFIG,
    FILES,
    PROBES,
    WEIGHTS,
    Card,
    adapter_id_of,
    install,
    read_card,
    size_of,
    verify,
    write_card,
    write_probes,
)
from schemas.errors import AdapterMissing, Unavailable
from schemas.generation import ChatMessage
from schemas.registry import Probe

ROOT = Path(__file__).parents[3]
CARD_VALUES = Card(task="routing", base_model="tiny", base_revision="a" * 64, chat_template="b" * 64)


def make(folder: Path, *, value: float = 1.0, rows: int = 4, **config: object) -> Path:
    """A folder as PEFT saves it, and the card."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"], **config}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2))
    save_file({"lora_A": np.full((rows, 8), value, dtype=np.float32)}, folder / WEIGHTS)
    write_card(folder, CARD_VALUES)
    (folder / "README.md").write_text("what PEFT writes besides")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make(tmp_path / "saved")


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_an_installed_adapter_is_three_files_in_a_folder_named_by_its_id(source, adapters):
    adapter_id, folder = install(source, adapters)
    assert folder == adapters / adapter_id
    assert len(adapter_id) == 32
    assert set(adapter_id) <= set("0123456789abcdef")
    assert names(adapters) == [adapter_id]
    assert names(folder) == sorted(FILES)
    assert adapter_id == adapter_id_of(source) == adapter_id_of(folder)
    assert size_of(folder) == sum((folder / name).stat().st_size for name in FILES)
    assert read_card(folder) == CARD_VALUES
    verify(adapter_id, folder)


def test_installing_twice_is_installing_once_and_keeps_the_probes(source, adapters):
    adapter_id, folder = install(source, adapters)
    write_probes(folder, [Probe(messages=(ChatMessage("user", "Hi"),), output="Ho")])
    assert install(source, adapters) == (adapter_id, folder)
    assert names(folder) == sorted([*FILES, PROBES])


def test_the_id_depends_on_what_the_settings_say_and_not_on_how_they_are_written(tmp_path):
    plain = make(tmp_path / "a")
    other = make(tmp_path / "b", target_modules=["v_proj", "q_proj"])
    (other / CONFIG).write_text(json.dumps(dict(reversed(json.loads((other / CONFIG).read_text()).items()))))
    assert adapter_id_of(plain) == adapter_id_of(other)


def test_other_weights_settings_or_cards_are_other_adapters(tmp_path):
    ids = {
        adapter_id_of(make(tmp_path / "a")),
        adapter_id_of(make(tmp_path / "b", value=1.001)),
        adapter_id_of(make(tmp_path / "c", r=8)),
    }
    folder = make(tmp_path / "d")
    write_card(folder, Card(task="support", base_model="tiny", base_revision="a" * 64, chat_template="b" * 64))
    assert len(ids | {adapter_id_of(folder)}) == 4


@pytest.mark.parametrize("name", FILES)
def test_verify_notices_any_changed_byte(source, adapters, name):
    adapter_id, folder = install(source, adapters)
    content = (folder / name).read_bytes()
    for place in sorted({0, 9, len(content) // 2, len(content) - 1}):
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(AdapterMissing):
            verify(adapter_id, folder)
    (folder / name).write_bytes(content + b" ")
    with pytest.raises(AdapterMissing):
        verify(adapter_id, folder)
    (folder / name).write_bytes(content)
    verify(adapter_id, folder)


@pytest.mark.parametrize("name", FILES)
def test_verify_notices_a_file_that_is_gone(source, adapters, name):
    adapter_id, folder = install(source, adapters)
    (folder / name).unlink()
    with pytest.raises(AdapterMissing, match=f"has no {name}"):
        verify(adapter_id, folder)


def test_verify_notices_a_folder_that_is_gone(source, adapters):
    adapter_id, folder = install(source, adapters)
    shutil.rmtree(folder)
    with pytest.raises(AdapterMissing, match=r"there is no adapter in .*: train it again, or roll back"):
        verify(adapter_id, folder)


def test_an_adapter_under_another_ones_name_is_found_out(tmp_path, source, adapters):
    adapter_id, _ = install(source, adapters)
    _, other = install(make(tmp_path / "other", value=2.0), adapters)
    with pytest.raises(AdapterMissing, match="were changed"):
        verify(adapter_id, other)


def test_installing_again_mends_what_was_changed(source, adapters):
    adapter_id, folder = install(source, adapters)
    (folder / WEIGHTS).write_bytes(b"\0" * 100)
    (folder / CARD).unlink()
    assert install(source, adapters) == (adapter_id, folder)
    verify(adapter_id, folder)


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "optimizer.PT", "x.pkl"])
def test_a_folder_with_a_pickle_is_refused(source, adapters, name):
    (source / name).write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(AdapterMissing, match="pickles, which can run code"):
        install(source, adapters)
    assert not adapters.exists()


@pytest.mark.parametrize(
    "content", [pickle.dumps({"a": 1}), b"", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"], ids=str
)
def test_weights_that_are_no_safetensors_are_refused(source, adapters, content):
    (source / WEIGHTS).write_bytes(content)
    with pytest.raises(AdapterMissing, match="not in safetensors"):
        install(source, adapters)
    assert not adapters.exists()


def test_weights_that_were_cut_off_or_are_none_are_refused(source, adapters):
    content = (source / WEIGHTS).read_bytes()
    (source / WEIGHTS).write_bytes(content[:-4])
    with pytest.raises(AdapterMissing, match="not in safetensors"):
        install(source, adapters)
    save_file({}, source / WEIGHTS)
    with pytest.raises(AdapterMissing, match="holds no weights"):
        install(source, adapters)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (CONFIG, b"{", "not JSON"),
        (CONFIG, b"\xff\xfe", "not JSON"),
        (CONFIG, b"[]", "no JSON object"),
        (CARD, b'{"task": "routing"}', "must say task, base_model, base_revision, chat_template"),
        (CARD, b'{"task": 1, "base_model": "b", "base_revision": "c", "chat_template": "d"}', "must say"),
    ],
)
def test_settings_and_cards_that_say_nothing_are_refused(source, adapters, name, content, reason):
    (source / name).write_bytes(content)
    with pytest.raises(AdapterMissing, match=reason):
        install(source, adapters)


@pytest.mark.parametrize("name", FILES)
def test_a_link_out_of_the_folder_is_refused(source, adapters, tmp_path, name):
    adapter_id, folder = install(source, adapters)
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(AdapterMissing, match="is a link or no file"):
        verify(adapter_id, folder)


def test_a_folder_that_is_a_link_is_refused(source, adapters, tmp_path):
    adapter_id, folder = install(source, adapters)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdapterMissing, match="is a link"):
        verify(adapter_id, folder)


@pytest.mark.parametrize("action", [adapter_id_of, read_card])
def test_a_machine_out_of_files_condemns_no_adapter(source: Path, action: Callable[[Path], object]) -> None:
    action(source)  # imports what it needs
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(Unavailable, match="Too many open files; allow more"):
            action(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    action(source)
