"""The shared beginning of prompts is read once for each adapter, where the attention allows it; no text changes."""

from types import SimpleNamespace

import pytest

from schemas.generation import ChatMessage, GenerationRequest
from tests.lazily import lazily

prefixes = lazily("infra.engines.prefixes")
transformers = lazily("transformers")
INSTRUCTION = "Which team handles this message? Answer with one of these and nothing else: billing, delivery, returns."
MESSAGES = ["Where is it?", "My parcel has not come although it was to be here a week ago.", "I was charged twice."]


def asked(text, adapter_id=None):
    messages = (ChatMessage("system", INSTRUCTION), ChatMessage("user", text))
    return GenerationRequest(messages=messages, adapter_id=adapter_id, max_tokens=6)


def test_a_shared_prefix_leaves_a_token_of_each_prompt():
    assert prefixes.shared_prefix([[5, 6, 7], [5, 6, 1, 2]]) == 2
    assert prefixes.shared_prefix([[5, 6]] * 2) == 1
    assert prefixes.shared_prefix([[1, 2], [3, 2]]) == 0


def test_what_all_prompts_of_a_batch_share_with_its_instruction_is_read_apart_where_that_is_worth_a_pass():
    instruction = [*range(20), 98, 99]
    worth = prefixes.Prefixes(None, "cpu").worth_sharing
    assert worth([[*range(20), 50, 51]], instruction) == 20
    assert worth([[*range(20), 50], [*range(12), 60, 61]], instruction) == 12
    assert worth([[*range(20), 50], [0, 1, 2, 60]], instruction) == 0
    assert worth([[*range(20), 50]], []) == 0


@pytest.mark.parametrize(
    ("name", "able"), [("Llama", True), ("Qwen2", True), ("Mistral", False), ("Gemma2", False), ("Mamba", False)]
)
def test_a_model_with_a_window_or_a_state_shares_nothing(name, able):
    config = getattr(transformers, f"{name}Config")()
    stateful = getattr(transformers, f"{name}ForCausalLM")._is_stateful
    assert prefixes.can_share(SimpleNamespace(config=config, _is_stateful=stateful)) is able


@pytest.fixture
def engine(transformers_engine):
    """Without anything that other tests had it read."""
    transformers_engine._prefixes = prefixes.Prefixes(transformers_engine._slots, "cpu")
    return transformers_engine


@pytest.fixture
def read(engine):
    """The shapes of what the model reads: rows and tokens of each pass."""
    shapes = []
    hook = engine._slots._plain.model.register_forward_pre_hook(
        lambda _, given, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    yield shapes
    hook.remove()


def test_an_instruction_is_read_once_an_adapter_and_the_answers_are_those_without(
    engine, random_adapters, read, monkeypatch
):
    engine.set_adapters(random_adapters)
    requests = [asked(text, adapter_id) for text in MESSAGES for adapter_id in (None, "red", "blue")]
    with monkeypatch.context() as without:
        without.setattr(engine._prefixes, "able", False)
        expected = engine.generate(requests)
    lengths = [engine.count_tokens(request.messages) for request in requests]
    assert read[0] == (9, max(lengths))
    read.clear()

    assert engine.generate(requests) == expected

    (arms, shared), (rows, rest) = read[:2]
    assert (arms, rows) == (3, 9)
    assert shared > engine.count_tokens((ChatMessage("system", INSTRUCTION),)) - 10
    assert shared + rest == max(lengths)
    read.clear()
    assert [engine.generate([request])[0] for request in requests] == expected, "and the instruction not again"
    assert {shape for shape in read if shape[1] > 1} == {(1, length - shared) for length in lengths}


def test_another_adapter_under_the_same_name_and_another_instruction_read_anew(engine, random_adapters):
    engine.set_adapters({"mine": random_adapters["red"], "blue": random_adapters["blue"]})
    red, blue = engine.generate([asked(MESSAGES[0], "mine"), asked(MESSAGES[0], "blue")])
    engine.set_adapters({})
    engine.set_adapters({"mine": random_adapters["blue"]})
    assert engine.generate([asked(MESSAGES[0], "mine")]) == [blue]
    assert red != blue
    other = GenerationRequest(
        messages=(ChatMessage("system", "Write in French."), ChatMessage("user", "Hello")), max_tokens=6
    )
    alone = engine.generate([other])
    assert engine.generate([asked(MESSAGES[1], "mine"), other])[1] == alone[0]


def test_what_was_used_last_is_kept_and_no_more_than_there_is_room_for(engine, random_adapters, read):
    engine.set_adapters(random_adapters)
    tokens = list(range(5, 25))
    some = prefixes.Prefixes(engine._slots, "cpu", most_tokens=40)

    def reads(*adapter_ids):
        read.clear()
        past = some.past(tokens, adapter_ids)
        assert past.layers[0].keys.shape[::2] == (len(adapter_ids), 20)
        return [rows for rows, _ in read]

    assert reads("red", None, "red") == [2]
    assert reads(None, "red") == []
    assert reads("blue") == [1]
    assert reads("red") == []
    assert reads(None) == [1], "it had to give way to blue"
    assert reads("red", "blue", None) == [1], "more than there is room for: read, and not kept"
    assert reads("blue") == [1]
    some.keep_only({"blue"})
    assert reads("red") == [1]
