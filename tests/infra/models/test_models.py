"""The shipped base model is converted whole or not at all, and any other model is found or named as missing."""

import json
import shutil
import threading
import time

import pytest

from infra.models.gguf import RECEIPT, is_converted
from infra.models.loading import PACKAGED, load_base_model, prepare
from infra.settings import Settings, load
from schemas.errors import ConfigurationError, ModelMissing
from schemas.policies import ModelSettings

LLAMA = '{"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 9}'


def settings_for(base, home, folder=None):
    return Settings(home=home, model=ModelSettings(base=str(base), folder=folder))


@pytest.fixture
def copied(base_model, models_folder, tmp_path):
    """A folder of models whose shipped one may be damaged; the weights are linked."""
    folder = tmp_path / "models" / PACKAGED
    folder.mkdir(parents=True)
    for file in (models_folder / PACKAGED).iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).hardlink_to(file)
        else:
            shutil.copy(file, folder / file.name)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "two  spaces\tand a tab",
        "line one\nline two\n\n  indented\n",
        "1234567890 and 3.14",
        "Grüße, señor – 日本語 العربية 🎉👩‍👩‍👧",
        "it's , not . what ' you ! think",
        " leading and trailing ",
    ],
)
def test_the_tokenizer_gives_back_the_text_it_was_given(base_model, text):
    _, tokenizer = base_model
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_tokenizer_splits_numbers_into_digits(base_model):
    _, tokenizer = base_model
    assert len(tokenizer.encode("20261122", add_special_tokens=False)) == 8


def test_the_tokenizer_ends_and_pads_with_different_tokens(base_model):
    model, tokenizer = base_model
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (
        "<|im_end|>",
        "<|endoftext|>",
        "<|im_start|>",
    )
    assert tokenizer.encode("a") == tokenizer.encode("a", add_special_tokens=False)
    assert len(tokenizer) == model.config.vocab_size


def test_the_chat_template_of_the_model_is_kept(base_model):
    _, tokenizer = base_model
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_ready_model_is_not_converted_again(base_model, model_settings):
    seen = []
    started = time.monotonic()
    folder = prepare(model_settings, lambda done, text: seen.append((done, text)))
    assert time.monotonic() - started < 1
    assert seen == [(1.0, "the base model is ready")]
    assert folder == model_settings.models_folder / PACKAGED


@pytest.mark.parametrize("damage", ["file missing", "file cut short", "no receipt", "older converter"])
def test_a_damaged_conversion_is_not_taken_for_a_model(copied, damage, tmp_path):
    from infra.models.loading import _packaged_gguf

    source = _packaged_gguf()
    assert is_converted(source, copied)
    if damage == "file missing":
        (copied / "model.safetensors").unlink()
    elif damage == "file cut short":
        (copied / "tokenizer.json").write_bytes(b"{}")
    elif damage == "no receipt":
        (copied / RECEIPT).unlink()
    else:
        receipt = json.loads((copied / RECEIPT).read_text())
        (copied / RECEIPT).write_text(json.dumps({**receipt, "converter": 0}))
    assert not is_converted(source, copied)


def test_two_at_once_make_one_whole_model_of_a_damaged_one(copied, tmp_path):
    (copied / RECEIPT).unlink()
    seen = []
    threads = [
        threading.Thread(
            target=prepare, args=(settings_for(PACKAGED, tmp_path, copied.parent), lambda done, _: seen.append(done))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count(0.0) == 1, "only one of the two converts"
    assert sorted(each.name for each in copied.parent.iterdir() if each.is_dir()) == [PACKAGED]
    _, tokenizer = load_base_model(settings_for(PACKAGED, tmp_path, copied.parent))
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_models_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"models folder .* cannot be used: .*; make it writable"):
        prepare(settings_for(PACKAGED, tmp_path, tmp_path / "file" / "models"))


def test_a_model_by_path_loads_like_the_shipped_one(copied, tmp_path):
    _, tokenizer = load_base_model(settings_for(copied, tmp_path))
    assert tokenizer.pad_token == "<|endoftext|>"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/no/such/folder", "there is no such folder"),
        ("./neither/this", "there is no such folder"),
        ("nobody/has-this-model-7f3a", "is no folder here, and the model hub"),
        ("not a name!", "is no folder here, and the model hub has no such model"),
    ],
)
def test_a_missing_model_is_named_in_one_line_and_soon(base, message, tmp_path):
    started = time.monotonic()
    with pytest.raises(ModelMissing, match=message) as raised:
        load_base_model(settings_for(base, tmp_path))
    assert time.monotonic() - started < 30
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json that names a model_type"),
        ({"config.json": "{}", "model.safetensors": ""}, "has no config.json that names a model_type"),
        ({"config.json": "[not json", "model.safetensors": ""}, "has no config.json that names a model_type"),
        ({"config.json": LLAMA}, r"lacks its weights as \*.safetensors"),
        ({"config.json": LLAMA, "pytorch_model.bin": "x"}, "pickled ones are refused"),
        ({"config.json": LLAMA, "model.safetensors.index.json": '{"weight_map": {"a": "b.safetensors"}}'}, "lacks"),
        ({"config.json": LLAMA, "model.safetensors": "junk"}, "does not load as a causal language model"),
        ({"config.json": '{"model_type": "vit"}', "model.safetensors": ""}, "does not load as a causal language model"),
        ({"config.json": '{"model_type": "none such"}', "model.safetensors": ""}, "does not load as a causal"),
    ],
)
def test_a_folder_that_is_no_model_is_named_in_one_line(files, message, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(ModelMissing, match=message) as raised:
        load_base_model(settings_for(folder, tmp_path))
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(("given", "meant"), [("ours", "ours"), ("../ours", "../ours"), ("/ours", "/ours")])
def test_a_models_folder_is_seen_from_the_home_folder_wherever_a_process_was_started(tmp_path, given, meant):
    assert load(tmp_path, environ={"EVERLEARN_MODEL_FOLDER": given}).models_folder == tmp_path / meant
