"""A follow-up is trained on, validated and compared as it was served: with the turns that were in its prompt."""

from __future__ import annotations

import asyncio
import json

import pytest

from agents.prompt import build_row_prompt
from agents.recorder.features import merge
from agents.recorder.voices import Rules
from agents.trainer.dataset import Pool, select
from infra.training.base_model import LoraTraining
from schemas.features import Interaction
from schemas.interactions import FeedbackGiven
from schemas.policies import TrainerPolicy
from schemas.questions import AnswerProduced, QuestionAsked, Turn
from tests.agents.answerer.room import NOW, TASKS, Room, question, received

CONTEXT_TOKENS = 60
"""Those of the room's answerer."""
POLICY = TrainerPolicy(minimum_rows=2)
FOLLOW_UPS = """
{"id":"b-often","text":"How often must that be done?","history":[{"role":"user","text":"How do I replace the belt?"},\
{"role":"assistant","text":"Open the cover and pull the belt off."}]}
{"id":"b-caps","text":"Please say that again in simpler words.","history":[{"role":"user","text":"After how many hours \
must the oil be changed?"},{"role":"assistant","text":"The oil must be changed after 300 hours."}]}
"""
LONG = tuple(Turn(role="user", text=f"turn {number} " + "word " * 12) for number in range(6))


def follow_ups(task: str) -> list[QuestionAsked]:
    lines = [json.loads(line) for line in FOLLOW_UPS.split("\n") if line]
    asked = [question(line["text"], task=task, question_id=line["id"], history=line["history"]) for line in lines]
    return [*asked, question("And for my wife?", task=task, question_id="long", history=LONG)]


def recorded(answer: AnswerProduced, correction: str) -> Interaction:
    """The row of an answer and its correction, as the recorder merges them."""
    asked = merge(None, received(answer, NOW), Rules())
    return merge(asked, received(FeedbackGiven(answer_id=answer.answer_id, correction=correction), NOW), Rules()).row


@pytest.mark.parametrize("name", ["support", "routing"])
async def test_a_follow_up_is_trained_on_in_the_prompt_that_was_served(tmp_path, name):
    room = Room(tmp_path)
    task = TASKS[name].model_copy(update={"metric": "exact_match"})

    answers = await room.ask(*follow_ups(name))
    rows = select(
        task, Pool(interactions=[recorded(each, f"right {each.answer_id}") for each in answers]), POLICY, secret="s"
    ).rows

    (requests,) = room.engine.calls
    served = {each.answer_id: request.messages for each, request in zip(answers, requests, strict=True)}
    assert len(rows) == 3
    for row in rows:
        prompt = build_row_prompt(task, row, budget=CONTEXT_TOKENS, count=room.engine.count_tokens)
        assert prompt.messages == served[row.origin_id]
        assert prompt.fits
    assert [len(each.history) for each in answers[:2]] == [2, 2]
    assert answers[2].history == LONG[len(LONG) - len(answers[2].history) :]
    assert 0 < len(answers[2].history) < len(LONG), "the oldest turns found no room in the prompt"


async def test_a_follow_up_that_no_model_answered_keeps_its_turns_and_no_more_than_a_message_may_hold(tmp_path):
    room = Room(tmp_path)
    turn = Turn(role="user", text="x" * 15_000)
    late, unknown = await room.ask(
        question(task="nonsense", history=(turn,) * 50), question(task="nonsense", history=LONG)
    )
    assert (late.history, unknown.history) == ((turn, turn), LONG)


def test_what_a_drift_check_embeds_of_a_follow_up_says_what_it_is_about():
    turns = (Turn(role="user", text="How do I renew a passport?"), Turn(role="assistant", text="At the town hall."))
    others = (Turn(role="user", text="Where do I buy a ticket?"), Turn(role="assistant", text="In the bus."))
    rows = [Interaction(answer_id="a", question="And for my wife?", history=each) for each in (turns, others, ())]
    assert [row.asked.split("\n")[:-1] for row in rows] == [
        ["How do I renew a passport?"],
        ["Where do I buy a ticket?"],
        [],
    ]
    assert {row.asked.split("\n")[-1] for row in rows} == {"And for my wife?"}
    assert Interaction(answer_id="feedback without an answer").asked == ""


def test_the_real_model_is_trained_on_as_many_tokens_as_it_was_served(model_settings, transformers_engine, tmp_path):
    room = Room(tmp_path, transformers_engine)
    task = TASKS["support"].model_copy(update={"metric": "exact_match"})
    training = LoraTraining(model_settings, POLICY)

    answers = asyncio.run(room.ask(*follow_ups("support")))
    rows = select(
        task, Pool(interactions=[recorded(each, f"right {each.answer_id}") for each in answers]), POLICY, secret="s"
    ).rows

    served = {each.answer_id: each.prompt_tokens for each in answers}
    for row in rows:
        prompt = build_row_prompt(
            task, row, budget=CONTEXT_TOKENS, count=lambda messages: len(training.encode(messages))
        )
        assert len(training.encode(prompt.messages)) == served[row.origin_id]
    assert all(row.history for row in rows)
