"""What every inference engine does: the contract of the memory twin and of transformers on the shipped model."""

import json
import shutil

import pytest

from infra.memory.engine import MemoryEngine
from schemas.errors import AdapterMissing
from schemas.generation import ChatMessage, GenerationRequest


@pytest.fixture(params=["memory", "transformers"])
def engine(request):
    return MemoryEngine() if request.param == "memory" else request.getfixturevalue("transformers_engine")


def asked(text, **limits):
    return GenerationRequest(messages=(ChatMessage("user", text),), **{"max_tokens": 5, **limits})


SAID = ["Paris", "", "Wet. " * 20, "x"]
CITIES = ["What is the capital of France?", "Name a colour. " * 12, "Tell me about the sea.", "Write a poem."]


def test_no_requests_give_no_generations(engine):
    assert engine.generate([]) == []


def test_a_request_gives_the_same_text_alone_and_among_others(engine):
    requests = [asked(text, max_tokens=12) for text in CITIES]
    assert engine.generate(requests) == [engine.generate([request])[0] for request in requests]


def test_different_prompts_give_different_texts(engine):
    assert len({generation.text for generation in engine.generate([asked(text) for text in CITIES])}) == 4


def test_each_request_is_cut_at_its_own_limit(engine):
    short, long, middle = engine.generate([asked("Tell me about the sea.", max_tokens=limit) for limit in (1, 10, 4)])
    assert [each.completion_tokens for each in (short, long, middle)] == [1, 10, 4]
    assert {each.finish_reason for each in (short, long, middle)} == {"length"}
    assert long.text.startswith(middle.text)
    assert middle.text.startswith(short.text)


def test_an_answer_that_ends_by_itself_says_so(engine):
    (generation,) = engine.generate([asked("What is the capital of France?", max_tokens=100)])
    assert generation.finish_reason == "stop"
    assert 0 < generation.completion_tokens < 100


def test_a_seed_gives_the_same_sample_alone_and_among_others(engine):
    sample = asked("Tell me a story.", temperature=1.0, seed=7)
    greedy = asked("Tell me a story.")
    together = engine.generate([greedy, sample, asked("Tell me a story.", temperature=1.0, seed=8)])
    assert together[1] == engine.generate([sample])[0]
    assert together[0] == engine.generate([greedy])[0]
    assert len({generation.text for generation in together}) == 3


def test_tokens_are_counted_as_the_generation_counts_them(engine):
    request = asked("How long is this?")
    (generation,) = engine.generate([request])
    assert engine.count_tokens(request.messages) == generation.prompt_tokens
    longer = (*request.messages, ChatMessage("assistant", "That long."), ChatMessage("user", "And now?"))
    assert engine.count_tokens(longer) > generation.prompt_tokens
    assert engine.window >= 2048


def test_adapters_are_mixed_in_one_batch(engine, random_adapters):
    base = engine.generate([asked(CITIES[0])])[0]
    engine.set_adapters(random_adapters)
    order = ["red", None, "blue", "red", None]
    mixed = engine.generate([asked(CITIES[0], adapter_id=each) for each in order])
    alone = {each: engine.generate([asked(CITIES[0], adapter_id=each)])[0] for each in (None, "red", "blue")}
    assert mixed == [alone[each] for each in order]
    assert len({each.text for each in mixed}) == 3
    assert alone[None].text == base.text, "the base model is the same with adapters beside it"


def test_an_adapter_that_was_not_set_cannot_be_asked_for(engine, random_adapters):
    engine.set_adapters({"red": random_adapters["red"]})
    with pytest.raises(AdapterMissing, match="blue is not loaded"):
        engine.generate([asked("Hi"), asked("Hi", adapter_id="blue")])


def test_setting_adapters_adds_the_new_and_drops_the_old(engine, random_adapters):
    engine.set_adapters({"red": random_adapters["red"]})
    red = engine.generate([asked("Hi", adapter_id="red")])
    engine.set_adapters(random_adapters)
    assert engine.generate([asked("Hi", adapter_id="red")]) == red
    engine.set_adapters({"blue": random_adapters["blue"]})
    engine.generate([asked("Hi", adapter_id="blue")])
    with pytest.raises(AdapterMissing):
        engine.generate([asked("Hi", adapter_id="red")])
    engine.set_adapters({})
    engine.set_adapters({"red": random_adapters["red"]})
    assert engine.generate([asked("Hi", adapter_id="red")]) == red


def test_an_adapter_that_cannot_be_read_changes_nothing(engine, random_adapters, tmp_path):
    engine.set_adapters({"red": random_adapters["red"]})
    red = engine.generate([asked("Hi", adapter_id="red")])
    with pytest.raises(AdapterMissing, match="broken"):
        engine.set_adapters({"blue": random_adapters["blue"], "broken": tmp_path / "nothing"})
    assert engine.adapters == {"red"}
    assert engine.generate([asked("Hi", adapter_id="red")]) == red


def change_settings(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_weights(folder, **tensors):
    from safetensors.torch import save_file

    save_file(tensors, folder / "adapter_model.safetensors")


def of_another_shape(folder):
    import torch

    name = "base_model.model.model.layers.0.mlp.down_proj"
    write_weights(folder, **{f"{name}.lora_A.weight": torch.ones(4, 7), f"{name}.lora_B.weight": torch.ones(576, 4)})


def with_nan(folder):
    import torch

    write_weights(
        folder, **{"base_model.model.model.layers.0.mlp.down_proj.lora_A.weight": torch.full((4, 1536), torch.nan)}
    )


def for_one_layer_only(folder):
    import torch

    name = "base_model.model.model.layers.0.mlp.down_proj"
    write_weights(folder, **{f"{name}.lora_A.weight": torch.ones(4, 1536), f"{name}.lora_B.weight": torch.ones(576, 4)})


def with_a_strange_layer(folder):
    import torch

    write_weights(folder, **{"base_model.model.model.layers.99.mlp.down_proj.lora_A.weight": torch.ones(4, 1536)})


@pytest.fixture(scope="module", params=["beside another", "alone"])
def kept(request, session_engine, random_adapters):
    """What is in the engine before and after; it stays there for all broken ones."""
    adapters = {"blue": random_adapters["blue"]} if request.param == "beside another" else {}
    session_engine.set_adapters(adapters)
    yield adapters
    session_engine.set_adapters({})


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80\x04."), "pickled weights"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"junk"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: change_settings(folder, peft_type="IA3"), "not a LoRA"),
        (lambda folder: change_settings(folder, use_dora=True), r"not a plain LoRA \(use_dora\)"),
        (lambda folder: change_settings(folder, modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda folder: change_settings(folder, base_model_name_or_path="org/Other-7B"), "was trained on Other-7B"),
        (lambda folder: change_settings(folder, r=64), "does not load"),
        (lambda folder: change_settings(folder, target_modules=["nowhere"]), "does not load"),
        (of_another_shape, "does not fit smollm2"),
        (with_nan, "no numbers"),
        (for_one_layer_only, "does not load .*weights are missing"),
        (with_a_strange_layer, "does not have"),
    ],
)
def test_a_broken_adapter_is_refused_in_one_line_and_changes_nothing(
    kept, session_engine, random_adapters, tmp_path, breaks, message
):
    folder = tmp_path / "broken"
    shutil.copytree(random_adapters["red"], folder)
    breaks(folder)
    with pytest.raises(AdapterMissing, match=message) as raised:
        session_engine.set_adapters({"broken": folder})
    assert "\n" not in str(raised.value)
    assert session_engine.adapters == kept.keys()
    assert session_engine.generate([asked("Hi", max_tokens=1, adapter_id=next(iter(kept), None))])


def test_an_adapter_diverges_from_the_base_model_by_the_same_figure_each_time(engine, random_adapters):
    engine.set_adapters({"red": random_adapters["red"]})
    exchanges = [((ChatMessage("user", text),), answer) for text, answer in zip(CITIES, SAID, strict=True)]
    assert 0 < engine.divergence(exchanges, "red") == engine.divergence(exchanges, "red")
    with pytest.raises(AdapterMissing, match="blue is not loaded"):
        engine.divergence(exchanges, "blue")
