"""``everlearn ask``: asks questions from the command line or a file, and prints the answers in order."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, Refusal, checked, open_lines, parse, refuse_unknown
from agents.cli.options import choose_task, search_options, timeout_option
from agents.cli.output import JsonObject, counted, emit, note, one_line, printable, progress
from agents.cli.question_ids import unique_ids
from agents.cli.sending import Tally, now, size_of, stamped
from agents.cli.stores import feature_table_if_there
from agents.cli.waiting import Deadline, Reader, events_until, reader_and_publisher
from infra.settings import Settings
from schemas.documents import DEFAULT_TENANT
from schemas.envelope import Record
from schemas.errors import EverlearnError, Misuse
from schemas.features import Interaction
from schemas.filters import FilterError, parse_filter
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked, Source
from schemas.retrieval import HEADING_SEPARATOR, headings_above
from schemas.tasks import Task, unknown_task
from schemas.topics import MAX_RECORD_BYTES

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
NAMES = {"question_id": "id"}
"""What a line calls the fields of the event."""

Answer = AnswerProduced | AnswerFailed
T = TypeVar("T")


class Sender(Protocol):
    """Sends records and returns once Kafka has confirmed them; raises Unavailable when it does not."""

    def publish(self, records: Sequence[Record]) -> object: ...


class Unanswered(EverlearnError):
    """Nobody answered in time."""


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
@timeout_option(120.0, "Give up when no answer has arrived for this time.")
@json_option
@pass_context
def ask(
    context: CommandContext,
    /,
    text: str | None,
    questions: str | None,
    task: str | None,
    timeout: float,
    **given: object,
) -> None:
    """Ask TEXT, or the questions of a file, and print the answers in order.

    Ids that only the file knows, such as 1 and 2, are replaced, always by the same ones for the same question of the
    same person. With --json an answer has the line's "id" beside its "answer_id".

    Questions that cannot be answered are reported on stderr, and the exit code is then 1.
    """
    if (text is None) == (questions is None):
        raise Misuse("give either a TEXT or --questions FILE: see 'everlearn ask --help'")
    tasks = context.settings.tasks
    given["task"] = choose_task(task, tasks)
    tally = Tally()
    lines = QuestionLines(tasks=tasks, defaults={name: value for name, value in given.items() if value is not None})
    asked = read_questions(text, questions, lines, tally, noun="question")
    given_ids = {each.question_id: each.question_id for each in asked if each.question_id in lines.seen}
    if replaced := _unique_ids(asked, context.settings):
        asked = [
            each.model_copy(update={"question_id": replaced.get(each.question_id, each.question_id)}) for each in asked
        ]
        given_ids = {replaced.get(each, each): each for each in given_ids}
    if text is not None:
        # The answerer need not work on a question for which nobody waits any more. In a file each answer renews the
        # deadline of the next one, so that none can be named beforehand.
        deadline = now() + timedelta(seconds=timeout)
        asked = [question.model_copy(update={"deadline": deadline}) for question in asked]
    failed = _print_answers(context, asked, timeout, given_ids) if asked else []
    if failed and not tally.refused and len(asked) == 1:
        raise EverlearnError(f"the question {failed[0].answer_id} was not answered: {failed[0].reason}")
    if unanswered := len(failed) + tally.refused:
        total = len(asked) + tally.refused
        raise EverlearnError(f"{counted(unanswered, 'question')} of {total:,} not answered, as shown above")


def _unique_ids(asked: Sequence[QuestionAsked], settings: Settings) -> dict[str, str]:
    """Returns a new id for each that only its file knows, and says so on stderr."""

    def find(ids: Sequence[str]) -> Mapping[str, Interaction]:
        with feature_table_if_there(settings) as table:
            return table.interactions(ids) if table is not None else {}

    replaced = unique_ids(asked, find)
    if replaced:
        few = next(iter(replaced))
        ids = f"the id {few!r}" if len(replaced) == 1 else f"{len(replaced):,} ids such as {few!r}"
        got = "its question got another one" if len(replaced) == 1 else "their questions got others"
        note(f"questions of another file may have {ids} too, so {got}: give feedback with the answer_id of the answer")
    return replaced


def _print_answers(
    context: CommandContext, asked: list[QuestionAsked], timeout: float, given_ids: Mapping[str, str]
) -> list[AnswerFailed]:
    """Prints each answer, and returns those that failed. ``given_ids``: the callers' ids, by the questions' ids."""
    failed = []
    many = len(asked) > 1
    with answers_to(asked, context.settings, timeout, "answering") as answers:
        for answer in answers:
            if context.json:
                own = {"id": given_ids[answer.answer_id]} if answer.answer_id in given_ids else {}
                emit({**own, **answer.model_dump(mode="json")})
            if isinstance(answer, AnswerFailed):
                failed.append(answer)
                if many:
                    note(f"{given_ids.get(answer.answer_id, answer.answer_id)}: {one_line(answer.reason, 500)}")
            elif not context.json:
                click.echo(render(answer, many=many))
    return failed


def render(answer: AnswerProduced, *, many: bool) -> str:
    """An answer for people: its text, then its sources."""
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


def place_in_document(source: Source) -> str:
    """``Title > Heading > Heading below``, on one line; empty where the source has neither."""
    return one_line(HEADING_SEPARATOR.join(headings_above(source.title, source.heading)), 100)


@dataclass(kw_only=True)
class QuestionLines:
    """Makes a question of a line's object; ``defaults`` has the fields that a line may leave out."""

    tasks: Mapping[str, Task]
    defaults: Mapping[str, object]
    seen: set[str] = field(default_factory=set)
    """The ids that lines have given."""

    def __call__(self, fields: JsonObject) -> QuestionAsked:
        refuse_unknown(fields, QUESTION_FIELDS)
        given = {name: value for name, value in fields.items() if value is not None and name != "id"}
        question_id = fields["id"] if fields.get("id") is not None else str(uuid.uuid4())
        question = checked_question({**self.defaults, **given, "question_id": question_id})
        if question.task not in self.tasks:
            raise Faulty(unknown_task(question.task, self.tasks))
        if question.question_id in self.seen:
            raise Faulty(
                f"the id {question.question_id!r} stands in an earlier line: each question needs an id of its own"
            )
        _, record = stamped(question)
        if (size := size_of(record)) > MAX_RECORD_BYTES:
            raise Faulty(f"takes {size:,} bytes as a record, and {MAX_RECORD_BYTES:,} is the most: shorten its history")
        if fields.get("id") is not None:
            self.seen.add(question.question_id)
        return question


def checked_question(fields: JsonObject) -> QuestionAsked:
    """A question of these fields. Raises Faulty, also for a filter that cannot be read."""
    question = checked(lambda: QuestionAsked(**fields), NAMES)
    try:
        if question.filter is not None:
            parse_filter(question.filter)
    except FilterError as error:
        raise Faulty(f"filter: {error}") from None
    return question


def read_questions(
    text: str | None, path: str | None, build: Callable[[JsonObject], T], tally: Tally, *, noun: str
) -> list[T]:
    """What ``build`` makes of the one text, or else of each line of the file. ``tally`` takes the refused lines.

    Raises Misuse for a text that cannot be asked, EverlearnError for a file without a question.
    """
    if text is not None:
        try:
            return [build({"text": text})]
        except Faulty as error:
            raise Misuse(str(error)) from None
    asked = []
    with open_lines(str(path)) as (file, name):
        for item in parse(file, name, build):
            if isinstance(item, Refusal):
                tally.refuse(item)
            else:
                asked.append(item.value)
    if not asked and not tally.refused:
        raise EverlearnError(f'{path} holds no {noun}: write lines like {{"text": "…"}}')
    return asked


@contextmanager
def answers_to(
    questions: Sequence[QuestionAsked], settings: Settings, seconds: float, description: str
) -> Iterator[Iterator[Answer]]:
    """Asks the questions, and gives their answers in the same order, with a progress bar. See ``converse``."""
    with (
        Deadline(seconds) as deadline,
        reader_and_publisher(settings, ["answers.v1"], deadline) as (reader, publisher),
        progress(description, len(questions)) as advance,
    ):

        def answers() -> Iterator[Answer]:
            for answer in converse(publisher, reader, questions, deadline):
                advance(1)
                yield answer

        yield answers()


def converse(
    sender: Sender, reader: Reader, questions: Sequence[QuestionAsked], deadline: Deadline
) -> Iterator[Answer]:
    """Asks all questions at once, and yields each answer as soon as those before it have come.

    ``reader`` must stand behind the answers to earlier questions. When no answer comes before the deadline, which each
    answer renews, the answers that are there are given, and then Unanswered is raised.
    """
    waiting: dict[str, str] = {}
    records = []
    for question in questions:
        waiting[question.question_id], record = stamped(question)
        records.append(record)
    sender.publish(records)
    arrived: dict[str, Answer] = {}
    following = iter(questions)
    current = next(following, None)
    answers = _answers(waiting, reader, deadline)
    while waiting and (answer := next(answers, None)) is not None:
        del waiting[answer.answer_id]
        arrived[answer.answer_id] = answer
        deadline.renew()
        while current is not None and current.question_id in arrived:
            yield arrived.pop(current.question_id)
            current = next(following, None)
    for question in [current, *following] if current is not None else ():
        if question.question_id in arrived:
            yield arrived.pop(question.question_id)
    if waiting:
        raise Unanswered(_describe_unanswered(list(waiting), len(questions), deadline.seconds))


def _answers(waiting: Mapping[str, str], reader: Reader, deadline: Deadline) -> Iterator[Answer]:
    """The answers to questions that wait: a question's id, and its event's id, which the answer names as its cause."""
    for event, context in events_until(reader, deadline):
        if not isinstance(event, Answer) or event.answer_id not in waiting:
            continue
        # The same id may have been asked before, and that answer may still be on its way.
        if context.causation_id in (None, waiting[event.answer_id]):
            yield event


def _describe_unanswered(missing: list[str], total: int, seconds: float) -> str:
    what = f"the question {missing[0]} was" if total == 1 else f"{len(missing):,} of {total:,} questions were"
    return (
        f"{what} not answered, and nothing came for {seconds:g} s: see with 'everlearn status' whether an "
        "answerer is ready and with 'everlearn dlq list' whether it gave up, or wait longer with --timeout"
    )
