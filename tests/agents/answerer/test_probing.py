"""Which adapters may serve, by their probes: exactly the same answers here, half of them on another engine."""

import pytest

from agents.answerer.releases import objection, requests_of
from schemas.generation import ChatMessage
from schemas.registry import Probe


def probes(engine="transformers cpu float32"):
    return [
        Probe(messages=(ChatMessage("user", each),), output=f"says {each}", max_tokens=7, engine=engine)
        for each in "abcd"
    ]


def said(wrong):
    """Returns the answers to the four probes, with so many wrong ones."""
    return ["something else"] * wrong + [probe.output for probe in probes()][wrong:]


@pytest.mark.parametrize(("wrong", "served"), [(0, True), (1, False), (4, False)])
def test_on_the_engine_that_made_the_probes_every_answer_must_be_the_same(wrong, served):
    reason = objection("a1", probes(), said(wrong), engine="transformers cpu float32", unprobed=False)
    assert (reason is None) is served
    if reason:
        assert reason == (
            f"a1 does not answer as it did when it was validated, {wrong} of 4 probes differ, such as "
            "'something else' for 'says a': train it again, or roll back"
        )


@pytest.mark.parametrize(("wrong", "served"), [(0, True), (2, True), (3, False), (4, False)])
def test_on_another_engine_or_precision_half_of_them_suffice(wrong, served):
    reason = objection("a1", probes(), said(wrong), engine="transformers cuda bfloat16", unprobed=True)
    assert (reason is None) is served


@pytest.mark.parametrize("unprobed", [True, False])
def test_an_adapter_without_probes_is_served_only_where_that_is_allowed(unprobed):
    reason = objection("a1", [], [], engine="any", unprobed=unprobed)
    assert (reason is None) is unprobed
    assert reason is None or "a1 was never validated" in reason


def test_probes_are_asked_greedily_and_as_briefly_as_they_were_made():
    (first, *_) = requests_of(probes(), "a1")
    assert (first.adapter_id, first.max_tokens, first.temperature) == ("a1", 7, 0.0)
    assert first.messages == probes()[0].messages
