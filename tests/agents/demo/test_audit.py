"""The demo's audit finds an answer of a wrong adapter, whichever way it shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from agents.demo.audit import audit
from agents.demo.customers import Exchange
from agents.demo.shop import CustomerMessage
from schemas.promotions import AdapterPromoted, CanaryStarted, ReleaseEvent
from schemas.questions import AnswerFailed, AnswerProduced, Arm

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAYS = {None: "?", "old": "returns", "new": "skates"}
RELEASES: list[ReleaseEvent] = [
    AdapterPromoted(task="routing", sequence=1, champion="old"),
    CanaryStarted(task="routing", sequence=2, champion="old", challenger="new", stage="canary", share=1.0, salt="s"),
    AdapterPromoted(task="routing", sequence=3, champion="new", previous="old"),
]


def generate(adapter_id: str | None, texts: Sequence[str]) -> list[str]:
    return [SAYS[adapter_id]] * len(texts)


def exchange(number: int, adapter: str | None, sequence: int, text: str, arm: Arm = "champion") -> Exchange:
    message = CustomerMessage(id=f"m{number}", split="x", text="are the blades sharp", label="skates", user="u1")
    answer = AnswerProduced(
        answer_id=f"a{number}",
        task="routing",
        question=message.text,
        text=text,
        user="u1",
        adapter_id=adapter,
        release_sequence=sequence,
        arm=arm,
    )
    return Exchange(message=message, answer=answer, at=NOW)


RIGHT = [
    exchange(0, None, 0, "?"),
    exchange(1, "old", 1, "returns"),
    exchange(2, "new", 2, "skates", "challenger"),
    exchange(3, "new", 3, "skates"),
]


def test_answers_of_the_released_adapters_are_all_right():
    found = audit(RIGHT, RELEASES, {}, generate)

    assert (found.wrong, found.checked, found.probed) == ({}, 4, 4)


def test_an_adapter_that_the_release_does_not_give_this_user_is_found():
    found = audit([*RIGHT, exchange(9, "old", 3, "returns")], RELEASES, {}, generate)

    assert list(found.wrong) == ["a9"]


def test_the_wrong_arm_of_a_canary_is_found():
    found = audit([exchange(9, "old", 2, "returns")], RELEASES, {}, generate)

    assert "gives this user new" in found.wrong["a9"]


def test_a_release_that_was_never_announced_is_found():
    found = audit([exchange(9, "old", 7, "returns")], RELEASES, {}, generate)

    assert "never announced" in found.wrong["a9"]


def test_a_text_that_is_another_adapters_is_found_though_all_labels_are_right():
    found = audit([*RIGHT, exchange(9, "new", 3, "returns")], RELEASES, {}, generate)

    assert found.wrong == {"a9": "its text is that of old"}


def test_an_answer_by_files_that_were_changed_is_found():
    found = audit(RIGHT, RELEASES, {"old": "a byte was changed"}, generate)

    assert found.wrong == {"a1": "a byte was changed"}


def test_failed_answers_are_not_judged():
    failed = AnswerFailed(answer_id="f", task="routing", question="q", reason="too long")
    message = CustomerMessage(id="m", split="x", text="q", label="skates", user="u1")

    found = audit([Exchange(message=message, answer=failed, at=NOW)], RELEASES, {}, generate)

    assert (found.wrong, found.checked) == ({}, 0)
