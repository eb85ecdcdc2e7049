"""What prompts begin with alike is read once an adapter, where the model's attention allows it, and nothing changes."""

from types import SimpleNamespace

import pytest

from schemas.generation import GenerationRequest, Message
from tests.lazily import lazily

prefixes = lazily("infra.engines.prefixes")
transformers = lazily("transformers")
INSTRUCTION = "Which team handles this message? Answer with one of these and nothing else: billing, delivery, returns."
MESSAGES = ["Where is it?", "My parcel has not come although it was to be here a week ago.", "I was charged twice."]


def asked(text, adapter_id=None):
    messages = (Message("system", INSTRUCTION), Message("user", text))
    return GenerationRequest(messages=messages, adapter_id=adapter_id, max_tokens=6)


def test_a_shared_prefix_leaves_a_token_of_each_prompt():
    assert prefixes.shared_prefix([[5, 6, 7], [5, 6, 1, 2]]) == 2
    assert prefixes.shared_prefix([[5, 6]] * 2) == 1
    assert prefixes.shared_prefix([[1, 2], [3, 2]]) == 0


def test_it_is_read_apart_where_that_saves_a_quarter_of_the_tokens():
    alike = [[1, 2, 3, 4, place] for place in range(4)]
    assert prefixes.worth_sharing(alike, arms=1) == prefixes.worth_sharing(alike, arms=2) == 4
    assert prefixes.worth_sharing(alike, arms=3) == 0
    assert prefixes.worth_sharing(alike[:1], arms=1) == 0
    assert prefixes.worth_sharing([[1, *range(place, place + 9)] for place in range(4)], arms=1) == 0


@pytest.mark.parametrize(
    ("name", "able"), [("Llama", True), ("Qwen2", True), ("Mistral", False), ("Gemma2", False), ("Mamba", False)]
)
def test_a_model_with_a_window_or_a_state_shares_nothing(name, able):
    config = getattr(transformers, f"{name}Config")()
    stateful = getattr(transformers, f"{name}ForCausalLM")._is_stateful
    assert prefixes.can_share(SimpleNamespace(config=config, _is_stateful=stateful)) is able


def test_an_instruction_is_read_once_an_adapter_and_the_answers_are_those_without(
    transformers_engine, random_adapters, monkeypatch
):
    transformers_engine.set_adapters(random_adapters)
    requests = [asked(text, adapter_id) for text in MESSAGES for adapter_id in (None, "red", "blue")] * 2
    alone = [transformers_engine.generate([request])[0] for request in requests[:9]] * 2
    read = []
    model = transformers_engine._slots._plain.model
    hook = model.register_forward_pre_hook(
        lambda _, given, named: read.append(named["input_ids"].shape), with_kwargs=True
    )
    try:
        together = transformers_engine.generate(requests)
    finally:
        hook.remove()
    assert together == alone
    (arms, shared), (rows, rest) = read[:2]
    assert (arms, rows) == (3, 18)
    assert shared > transformers_engine.count_tokens((Message("system", INSTRUCTION),)) - 10
    assert shared + rest == max(transformers_engine.count_tokens(request.messages) for request in requests)
