"""``everlearn ask``: questions from the command line or a file, answered in order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.conversation import converse
from agents.cli.inputs import open_lines
from agents.cli.jsonl import Faulty, parse
from agents.cli.options import search_options, timeout_option
from agents.cli.output import counted, emit, note, one_line, printable, progress
from agents.cli.questions import QuestionLines, choose_task, sort_out
from agents.cli.sending import Tally, now
from agents.cli.sources_shown import place_in_document
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.documents import DEFAULT_TENANT
from schemas.errors import EverlearnError, Misuse
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked


@click.command()
@click.argument("text", required=False)
@click.option("--questions", metavar="FILE", help="Lines {id?,text,task?,user?,session?,history?,…}; - for stdin.")
@click.option("--task", help="The task asked of.  [default: the first one configured]")
@click.option("--user", help="Who asks; a user always gets the same arm of a canary.")
@click.option("--session", help="The conversation that this belongs to.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose documents to answer from.")
@click.option("--max-tokens", type=int, help="Longest answer.  [default: the task's]")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 gives the likeliest answer.")
@search_options
@timeout_option(120.0, "Give up after so long without an answer.")
@json_option
@pass_context
def ask(context: CommandContext, /, text: str | None, questions: str | None, timeout: float, **given: Any) -> None:
    """Ask TEXT, or the questions of a file, and print the answers in order.

    A question that cannot be answered is told on stderr, and the exit code is 1.
    """
    if (text is None) == (questions is None):
        raise Misuse("give either a TEXT or --questions FILE: see 'everlearn ask --help'")
    tasks = context.settings.tasks
    given["task"] = choose_task(given["task"], tasks)
    tally = Tally()
    lines = QuestionLines(tasks=tasks, defaults={name: value for name, value in given.items() if value is not None})
    if text is not None:
        asked = [_with_deadline(_single(lines, text), timeout)]
    else:
        with open_lines(str(questions)) as (file, name):
            asked = sort_out(parse(file, name, lines), tally.refuse)
        if not asked and not tally.refused:
            raise EverlearnError(f'{questions} holds no question: write lines like {{"text": "…"}}')
    failed = _converse(context, asked, timeout) if asked else []
    if failed and not tally.refused and len(asked) == 1:
        raise EverlearnError(f"the question {failed[0].answer_id} was not answered: {failed[0].reason}")
    if unanswered := len(failed) + tally.refused:
        total = len(asked) + tally.refused
        raise EverlearnError(f"{counted(unanswered, 'question')} of {total:,} not answered, as said above")


def _single(lines: QuestionLines, text: str) -> QuestionAsked:
    try:
        return lines({"text": text})
    except Faulty as error:
        raise Misuse(str(error)) from None


def _with_deadline(question: QuestionAsked, seconds: float) -> QuestionAsked:
    """Nobody waits longer, so that no answerer works for nobody. In a file each answer buys the next one time."""
    return question.model_copy(update={"deadline": now() + timedelta(seconds=seconds)})


def _converse(context: CommandContext, asked: list[QuestionAsked], timeout: float) -> list[AnswerFailed]:
    """Prints each answer; gives those that failed."""
    config = KafkaClientConfig.from_settings(context.settings)
    failed = []
    many = len(asked) > 1
    with (
        RecordReader(config, ["answers.v1"], from_end=True) as reader,
        RecordPublisher(config) as publisher,
        progress("answering", len(asked)) as advance,
    ):
        for answer in converse(publisher, reader, asked, patience_seconds=timeout):
            advance(1)
            if context.json:
                emit(answer.model_dump(mode="json"))
            if isinstance(answer, AnswerFailed):
                failed.append(answer)
                if many:
                    note(f"{answer.answer_id}: {one_line(answer.reason, 500)}")
            elif not context.json:
                click.echo(render(answer, many=many))
    return failed


def render(answer: AnswerProduced, *, many: bool) -> str:
    """An answer for people: its text, then where it comes from."""
    lines = [f"? {one_line(answer.question)}"] if many else []
    lines += [printable(answer.text).strip(), ""]
    if answer.declined:
        lines.append(f"  no document answers this{', the closest being' if answer.sources else ''}")
    for place, source in enumerate(answer.sources, start=1):
        where = f"  {source.uri}" if source.uri else ""
        name = place_in_document(source) or one_line(source.document_id)
        lines.append(f"  [{place}] {name}  {source.score:.3f}{printable(where)}")
    adapter = answer.adapter_id or "no adapter"
    lines.append(f"  answer {answer.answer_id}  ({answer.task}, {adapter}, {answer.latency_ms / 1000:.1f} s)")
    return "\n".join([*lines, ""] if many else lines)
