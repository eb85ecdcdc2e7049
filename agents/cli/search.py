"""``everlearn search``: finds the documents that an answer would be based on."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import click

from agents.cli.ask import Answer, answers_to, checked_question, place_in_document, read_questions
from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, refuse_unknown
from agents.cli.options import choose_task, search_options, timeout_option
from agents.cli.output import JsonObject, emit, note, one_line
from agents.cli.sending import Tally
from agents.cli.stores import open_database
from schemas.documents import DEFAULT_TENANT
from schemas.errors import EverlearnError, Misuse
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked

QUERY_FIELDS = ("query_id", "text", "mode", "filter")


@click.command()
@click.argument("text", required=False)
@click.option("--queries", metavar="FILE", help="Lines {query_id?,text,mode?,filter?}; - for stdin.")
@click.option("-k", "top_k", type=click.IntRange(1, 100), default=5, show_default=True, help="Hits for each text.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose documents to search.")
@click.option("--task", help="The task whose answerers search.  [default: the first one with retrieval]")
@search_options
@timeout_option(60.0, "Give up when no result has arrived for this time.")
@json_option
@pass_context
def search(
    context: CommandContext,
    /,
    text: str | None,
    queries: str | None,
    task: str | None,
    timeout: float,
    **given: object,
) -> None:
    """Search the documents for TEXT, or for each query of a file; results in the order of the queries."""
    if (text is None) == (queries is None):
        raise Misuse("give either a TEXT or --queries FILE: see 'everlearn search --help'")
    given["task"] = choose_task(task, context.settings.tasks, retrieval=True)
    tally = Tally()
    asked = read_questions(text, queries, QueryLines(defaults=given), tally, noun="query")
    failed = _print_hits(context, asked, timeout) if asked else []
    if failed and not tally.refused and len(asked) == 1:
        raise EverlearnError(f"the search failed: {failed[0].reason}")
    if unanswered := len(failed) + tally.refused:
        what = "query" if unanswered == 1 else "queries"
        raise EverlearnError(f"{unanswered:,} {what} of {len(asked) + tally.refused:,} not searched, as shown above")


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question for the documents alone, and the id that its asker gave it."""

    query_id: str
    question: QuestionAsked


@dataclass(frozen=True, kw_only=True)
class QueryLines:
    """Makes a query of a line's object; ``defaults`` has the fields that a line may leave out."""

    defaults: Mapping[str, object]

    def __call__(self, fields: JsonObject) -> Query:
        refuse_unknown(fields, QUERY_FIELDS)
        # Each search has a new id, so that one search of a file never takes the hits of another search of that file.
        question_id = str(uuid.uuid4())
        query_id = fields.get("query_id")
        if query_id is not None and not isinstance(query_id, str):
            raise Faulty("query_id: must be a text")
        given = {name: fields[name] for name in ("mode", "filter") if fields.get(name) is not None}
        given |= {"text": fields["text"]} if "text" in fields else {}
        own = {"question_id": question_id, "retrieve_only": True}
        return Query(query_id=query_id or question_id, question=checked_question({**self.defaults, **given, **own}))


def _print_hits(context: CommandContext, asked: list[Query], timeout: float) -> list[AnswerFailed]:
    """Prints each query's hits, and returns the failures."""
    names = {query.question.question_id: query.query_id for query in asked}
    failed = []
    many, empty = len(asked) > 1, False
    with answers_to([query.question for query in asked], context.settings, timeout, "searching") as answers:
        for answer in answers:
            query_id = names[answer.answer_id]
            if context.json:
                emit(result(query_id, answer))
            empty = empty or (isinstance(answer, AnswerProduced) and not answer.sources)
            if isinstance(answer, AnswerFailed):
                failed.append(answer)
                if many:
                    note(f"{query_id}: {one_line(answer.reason, 500)}")
            elif not context.json:
                click.echo(render(answer, many=many))
    if empty:
        _explain_nothing(context, asked[0].question)
    return failed


def _explain_nothing(context: CommandContext, question: QuestionAsked) -> None:
    """Says so where the tenant has no documents. Prints nothing where this machine cannot read the database."""
    from infra.sql.documents import SqlDocuments

    with contextlib.suppress(EverlearnError), open_database(context.settings) as database:
        if not SqlDocuments(database).any_of(question.tenant):
            note(
                f"the tenant {question.tenant} has no documents: publish some with 'everlearn publish documents', "
                "or name another with --tenant"
            )


def result(query_id: str, answer: Answer) -> JsonObject:
    """A query's result for programs; a failed one has no hits and a reason."""
    if isinstance(answer, AnswerFailed):
        return {"query_id": query_id, "hits": [], "reason": answer.reason}
    fields = {"document_id", "chunk_id", "score", "text", "title", "heading", "uri"}
    return {"query_id": query_id, "hits": [source.model_dump(include=fields) for source in answer.sources]}


def render(answer: AnswerProduced, *, many: bool) -> str:
    """Hits for people: score, document, and how the chunk begins."""
    lines = [f"? {one_line(answer.question)}"] if many else []
    for source in answer.sources:
        name = place_in_document(source)
        lines.append(f"{source.score:6.3f}  {f'{name}  ' if name else ''}({one_line(source.document_id, 110)})")
        lines.append(f"        {one_line(source.text, 110)}")
    if not answer.sources:
        lines.append("no hits")
    return "\n".join([*lines, ""] if many else lines)
