"""``everlearn ask``: questions from the command line or a file, answered in order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, Item, Refusal, checked, open_lines, parse, refuse_unknown
from agents.cli.options import choose_task, search_options, timeout_option, unknown_task
from agents.cli.output import counted, emit, note, one_line, printable, progress
from agents.cli.sending import SOURCE, Tally, now
from agents.cli.waiting import Reader
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.documents import DEFAULT_TENANT
from schemas.envelope import MalformedRecord, Record, decode, encode, new_context
from schemas.errors import EverlearnError, Misuse
from schemas.filters import FilterError, parse_filter
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked, Source
from schemas.retrieval import HEADING_SEPARATOR, headings_above
from schemas.tasks import Task

QUESTION_FIELDS = (
    "id",
    "text",
    "task",
    "user",
    "session",
    "tenant",
    "history",
    "max_tokens",
    "temperature",
    "top_k",
    "mode",
    "filter",
)


QUERY_FIELDS = ("query_id", "text", "mode", "filter")


NAMES = {"question_id": "id"}


@dataclass(kw_only=True)
class QuestionLines:
    """Makes a question of a line's object; what the line leaves out comes from ``defaults``."""

    tasks: Mapping[str, Task]
    defaults: Mapping[str, Any]
    seen: set[str] = field(default_factory=set)

    def __call__(self, fields: dict[str, Any]) -> QuestionAsked:
        refuse_unknown(fields, QUESTION_FIELDS)
        given = {name: value for name, value in fields.items() if value is not None and name != "id"}
        question_id = fields["id"] if fields.get("id") is not None else str(uuid.uuid4())
        made = checked(lambda: QuestionAsked(**{**self.defaults, **given, "question_id": question_id}), NAMES)
        _check_filter(made)
        if made.task not in self.tasks:
            raise Faulty(unknown_task(made.task, self.tasks))
        if made.question_id in self.seen:
            raise Faulty(f"the id {made.question_id!r} stands in an earlier line: each question needs an id of its own")
        self.seen.add(made.question_id)
        return made


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question for the documents alone, and what its asker calls it."""

    query_id: str
    question: QuestionAsked


@dataclass(frozen=True, kw_only=True)
class QueryLines:
    """Makes a query of a line's object."""

    defaults: Mapping[str, Any]

    def __call__(self, fields: dict[str, Any]) -> Query:
        refuse_unknown(fields, QUERY_FIELDS)
        # An id of its own, so that the same file can be searched twice without one search taking the other's hits.
        question_id = str(uuid.uuid4())
        query_id = fields.get("query_id")
        if query_id is not None and not isinstance(query_id, str):
            raise Faulty("query_id: must be a text")
        given = {name: fields[name] for name in ("mode", "filter") if fields.get(name) is not None}
        given |= {"text": fields["text"]} if "text" in fields else {}
        own = {"question_id": question_id, "retrieve_only": True}
        question = checked(lambda: QuestionAsked(**{**self.defaults, **given, **own}))
        _check_filter(question)
        return Query(query_id=query_id or question_id, question=question)


def _check_filter(question: QuestionAsked) -> None:
    try:
        if question.filter is not None:
            parse_filter(question.filter)
    except FilterError as error:
        raise Faulty(f"filter: {error}") from None


def sort_out(items: Iterable[Item[Any] | Refusal], refuse: Callable[[Refusal], None]) -> list[Any]:
    """The values that can be used, in order; each refusal is handed to ``refuse``."""
    usable = []
    for item in items:
        if isinstance(item, Refusal):
            refuse(item)
        else:
            usable.append(item.value)
    return usable


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


Answer = AnswerProduced | AnswerFailed


POLL_SECONDS = 0.5


class Sender(Protocol):
    """Sends records and returns once Kafka has confirmed them; raises Unavailable when it does not."""

    def publish(self, records: Sequence[Record]) -> object: ...


class Unanswered(EverlearnError):
    """Nobody answered in time."""


def converse(
    sender: Sender,
    reader: Reader,
    questions: Sequence[QuestionAsked],
    *,
    patience_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Answer]:
    """All questions at once; their answers in order, each as soon as those before it have come.

    ``reader`` must have been positioned at the end of the answers before. When nothing comes for so long, the answers
    that are there are given, and then Unanswered is raised.
    """
    waiting: dict[str, str] = {}
    records = []
    for question in questions:
        context = new_context(SOURCE, now=now())
        waiting[question.question_id] = context.id
        records.append(encode(question, context))
    sender.publish(records)
    arrived: dict[str, Answer] = {}
    following = iter(questions)
    current = next(following, None)
    deadline = clock() + patience_seconds
    while waiting and clock() < deadline:
        for answer in _answers_to(waiting, reader):
            arrived[answer.answer_id] = answer
            deadline = clock() + patience_seconds
        while current is not None and current.question_id in arrived:
            yield arrived.pop(current.question_id)
            current = next(following, None)
    for question in [current, *following] if current is not None else ():
        if question.question_id in arrived:
            yield arrived.pop(question.question_id)
    if waiting:
        raise Unanswered(_describe_unanswered(list(waiting), len(questions), patience_seconds))


def _answers_to(waiting: dict[str, str], reader: Reader) -> Iterator[Answer]:
    for record in reader.poll(POLL_SECONDS):
        try:
            event, context = decode(record.position.topic, record.value, record.headers, now=datetime.now(UTC))
        except MalformedRecord:
            continue  # somebody else's record; 'tail' shows what is wrong with it
        if not isinstance(event, AnswerProduced | AnswerFailed) or event.answer_id not in waiting:
            continue
        # The same id may have been asked before, and that answer still be on its way.
        if context.causation_id in (None, waiting[event.answer_id]):
            del waiting[event.answer_id]
            yield event


def _describe_unanswered(missing: list[str], total: int, patience_seconds: float) -> str:
    what = f"the question {missing[0]} was" if total == 1 else f"{len(missing):,} of {total:,} questions were"
    return (
        f"{what} not answered, and nothing came for {patience_seconds:g} s: see with 'everlearn status' whether an "
        "answerer is ready and with 'everlearn dlq list' whether it gave up, or wait longer with --timeout"
    )


def place_in_document(source: Source) -> str:
    """``Title > Heading > Heading below``, on one line; empty where the source has neither."""
    return one_line(HEADING_SEPARATOR.join(headings_above(source.title, source.heading)), 100)
