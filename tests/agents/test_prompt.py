"""What goes into a prompt, and what goes first when it is too long."""

import pytest

from agents.prompt import build_prompt
from schemas.generation import ChatMessage
from schemas.questions import Turn
from schemas.retrieval import Chunk, Hit
from schemas.tasks import Task

SUPPORT = Task(name="support", instruction="Answer from the sources.", retrieval=True)
ROUTING = Task(name="routing", instruction="Name the team.", labels=("billing", "shipping"))


def hit(number, score, words=10, title=None):
    text = f"source{number} " + "word " * (words - 1)
    return Hit(
        chunk=Chunk(
            chunk_id=f"c{number}",
            tenant="t",
            document_id=f"d{number}",
            version="1",
            ordinal=0,
            text=text.strip(),
            title=title,
        ),
        score=score,
    )


def count(messages):
    return sum(len(message.content.split()) for message in messages)


def prompt(task=SUPPORT, question="why is it late", hits=(), history=(), budget=10_000):
    return build_prompt(task, question, hits, history, budget=budget, count=count)


HITS = [hit(2, 0.9), hit(3, 0.7), hit(1, 0.5)]
HISTORY = [Turn(role="user", text="first turn"), Turn(role="assistant", text="second turn")]


def test_sources_are_numbered_as_they_were_ranked():
    made = prompt(hits=[hit(2, 0.9, title="Delays"), hit(1, 0.5)])
    assert made.messages == (
        ChatMessage("system", "Answer from the sources."),
        ChatMessage(
            "user",
            "Sources:\n[1] Delays\nsource2 word word word word word word word word word\n\n"
            "[2] source1 word word word word word word word word word\n\nQuestion: why is it late",
        ),
    )
    assert [each.chunk.chunk_id for each in made.sources] == ["c2", "c1"]
    assert made.tokens == count(made.messages)


def test_the_conversation_stands_before_the_question():
    made = prompt(history=HISTORY)
    assert [message.role for message in made.messages] == ["system", "user", "assistant", "user"]


def test_a_task_without_retrieval_gets_the_bare_question_and_its_labels():
    made = prompt(ROUTING, "where is my parcel")
    assert made.messages == (
        ChatMessage("system", "Name the team.\nAnswer with one of these and nothing else: billing, shipping."),
        ChatMessage("user", "where is my parcel"),
    )


def test_a_retrieval_without_hits_says_so():
    assert "no sources" in prompt().messages[-1].content


@pytest.mark.parametrize("less", range(60))
def test_what_is_left_out_goes_in_order_and_the_question_stays(less):
    full = prompt(hits=HITS, history=HISTORY)
    made = prompt(hits=HITS, history=HISTORY, budget=full.tokens - less)
    kept = [each.chunk.chunk_id for each in made.sources]
    turns = [message.content for message in made.messages[1:-1]]
    assert kept == ["c2", "c3", "c1"][: len(kept)], "the least similar source goes first"
    assert turns == ["first turn", "second turn"][2 - len(turns) :], "the oldest turn goes first"
    assert len(turns) == 2 or len(kept) <= 1, "turns stay while there is more than one source"
    assert kept or not turns, "the best source goes last"
    assert made.messages[-1].content.endswith("why is it late")
    assert made.messages[0].content == "Answer from the sources."
    assert made.tokens <= full.tokens - less or (not kept and not turns)


def test_no_more_is_left_out_than_must_be():
    full = prompt(hits=HITS)
    assert len(prompt(hits=HITS, budget=full.tokens).sources) == 3
    assert len(prompt(hits=HITS, budget=full.tokens - 1).sources) == 2


def test_fifty_sources_need_few_counts():
    counted = []

    def counting(messages):
        counted.append(1)
        return count(messages)

    hits = [hit(number, number / 100) for number in reversed(range(50))]
    build_prompt(SUPPORT, "why", hits, HISTORY, budget=80, count=counting)
    assert len(counted) <= 8


def test_a_question_longer_than_the_budget_is_told_by_its_length():
    made = prompt(question="word " * 300, hits=HITS, history=HISTORY, budget=100)
    assert made.sources == ()
    assert made.tokens > 300
