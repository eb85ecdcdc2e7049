"""What a task's fingerprint is made of, and which differences matter."""

from __future__ import annotations

import pytest

from schemas.tasks import Task, TaskFingerprint, differences, fingerprint_of

ROUTING = Task(
    name="routing", instruction="Which team answers this?", metric="exact_match", labels=("billing", "returns")
)


def print_of(**changes: object) -> TaskFingerprint:
    return fingerprint_of(Task(**{**ROUTING.model_dump(), **changes}), prompt_format=1, engine="transformers 5.0")


def different(**changes: object) -> list[str]:
    return [str(each) for each in differences(print_of(), print_of(**changes))]


def replaces(**changes: object) -> bool:
    return any(each.replaces for each in differences(print_of(), print_of(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"instruction": "  Which team\n\tanswers this?\n"},
        {"labels": (" billing", "returns ")},
        {"metric": "token_f1"},
        {"max_tokens": 7},
        {"top_k": 9},  # nothing is searched
        {"unknown": "No idea."},
        {"promoter": {"judged": 3}},
    ],
)
def test_what_changes_no_prompt_is_no_difference(changes: dict[str, object]):
    assert different(**changes) == []


def test_the_same_letters_in_another_unicode_form_are_no_difference():
    assert differences(print_of(labels=("caf\u00e9", "b")), print_of(labels=("cafe\u0301", "b"))) == ()


def test_another_instruction_is_named_where_it_begins_to_differ_and_replaces_the_task():
    assert different(instruction="Which department answers this?") == [
        'instruction: from "Which team answers this?" to "Which department answers this?"'
    ]
    assert replaces(instruction="Which department answers this?")
    long = "All the same. " * 50
    (named,) = differences(print_of(instruction=long + "Be kind."), print_of(instruction=long + "Be rude."))
    assert named.before != named.after
    (named,) = differences(
        print_of(instruction=f"{'a' * 100} be kind, please"), print_of(instruction=f"{'a' * 100} be rude, please")
    )
    assert str(named) == 'instruction: from "…aaaaaaaaaaaaaaaa be kind, please" to "…aaaaaaaaaaaaaaaa be rude, please"'


def test_a_label_that_is_gone_replaces_the_task_and_a_new_one_does_not():
    assert different(labels=("accounts", "returns")) == ["labels: from 2 with 'billing' to 2 with 'accounts'"]
    assert replaces(labels=("accounts", "returns"))
    assert different(labels=("billing", "returns", "skates")) == ["labels: from 2 without 'skates' to 3 with 'skates'"]
    assert not replaces(labels=("billing", "returns", "skates"))
    assert different(labels=("billing",)) == ["labels: from 2 with 'returns' to 1 without 'returns'"]
    assert replaces(labels=("billing",))


def test_the_order_of_labels_is_a_difference_since_the_prompt_lists_them():
    assert different(labels=("returns", "billing")) == ["labels: from 'billing', 'returns' to 'returns', 'billing'"]
    assert not replaces(labels=("returns", "billing"))


def test_labels_in_place_of_any_text_replace_the_task_and_any_text_in_place_of_labels_does_not():
    (narrower,) = differences(print_of(labels=()), print_of())
    assert (str(narrower), narrower.replaces) == ("labels: from any text to 'billing', 'returns'", True)
    assert different(labels=()) == ["labels: from 'billing', 'returns' to any text"]
    assert not replaces(labels=())


def test_a_long_list_of_labels_is_counted():
    many = tuple(f"label {number}" for number in range(40))
    (named,) = differences(print_of(labels=many), print_of(labels=("other", "more")))
    assert named.before.endswith("'label 11' and 28 more")


def test_retrieval_format_and_engine_differ_without_replacing_the_task():
    before = fingerprint_of(ROUTING, prompt_format=1, engine="transformers 5.0")
    searching = ROUTING.model_copy(update={"retrieval": True, "top_k": 6})
    found = differences(before, fingerprint_of(searching, prompt_format=2, engine="transformers 5.1"))
    assert list(map(str, found)) == [
        "retrieval: from off to top_k 6, min_score 0.0, mode hybrid",
        "prompt format: from 1 to 2",
        "engine: from transformers 5.0 to transformers 5.1",
    ]
    assert not any(each.replaces for each in found)


def test_a_task_accepts_its_labels_in_any_case_and_any_text_without_labels():
    assert ROUTING.accepts(" Billing\n")
    assert not ROUTING.accepts("accounts")
    assert not ROUTING.accepts("")
    assert Task(name="support", instruction="Answer.").accepts("anything")
