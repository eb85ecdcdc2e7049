"""``everlearn search``: the documents that an answer would be given from."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from agents.cli.ask import Answer, Query, QueryLines, converse, place_in_document, sort_out
from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, open_lines, parse
from agents.cli.options import choose_task, search_options, timeout_option
from agents.cli.output import emit, note, one_line, progress
from agents.cli.sending import Tally
from agents.cli.stores import open_database
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.documents import DEFAULT_TENANT
from schemas.errors import EverlearnError, Misuse
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked


@click.command()
@click.argument("text", required=False)
@click.option("--queries", metavar="FILE", help="Lines {query_id?,text,mode?,filter?}; - for stdin.")
@click.option("-k", "top_k", type=click.IntRange(1, 100), default=5, show_default=True, help="Hits for each text.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose documents to search.")
@click.option("--task", help="The task whose answerers search.  [default: the first one with retrieval]")
@search_options
@timeout_option(60.0, "Give up after so long without a result.")
@json_option
@pass_context
def search(context: CommandContext, /, text: str | None, queries: str | None, timeout: float, **given: Any) -> None:
    """Search the documents for TEXT, or for each query of a file; results in the order of the queries."""
    if (text is None) == (queries is None):
        raise Misuse("give either a TEXT or --queries FILE: see 'everlearn search --help'")
    given["task"] = choose_task(given["task"], context.settings.tasks, retrieval=True)
    lines = QueryLines(defaults=given)
    tally = Tally()
    if text is not None:
        asked = [_single(lines, text)]
    else:
        with open_lines(str(queries)) as (file, name):
            asked = sort_out(parse(file, name, lines), tally.refuse)
        if not asked and not tally.refused:
            raise EverlearnError(f'{queries} holds no query: write lines like {{"text": "…"}}')
    failed = _converse(context, asked, timeout) if asked else []
    if failed and not tally.refused and len(asked) == 1:
        raise EverlearnError(f"the search failed: {failed[0].reason}")
    if unanswered := len(failed) + tally.refused:
        what = "query" if unanswered == 1 else "queries"
        raise EverlearnError(f"{unanswered:,} {what} of {len(asked) + tally.refused:,} not searched, as said above")


def _single(lines: QueryLines, text: str) -> Query:
    try:
        return lines({"text": text})
    except Faulty as error:
        raise Misuse(str(error)) from None


def _converse(context: CommandContext, asked: list[Query], timeout: float) -> list[AnswerFailed]:
    """Prints each query's hits; gives the failures."""
    config = KafkaClientConfig.from_settings(context.settings)
    names = {query.question.question_id: query.query_id for query in asked}
    questions = [query.question for query in asked]
    failed = []
    many, empty = len(asked) > 1, False
    with (
        RecordReader(config, ["answers.v1"], from_end=True) as reader,
        RecordPublisher(config) as publisher,
        progress("searching", len(asked)) as advance,
    ):
        for answer in converse(publisher, reader, questions, patience_seconds=timeout):
            advance(1)
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
    """Says so where the tenant has no documents; whoever cannot look into the database is told nothing."""
    from infra.sql.documents import SqlDocuments

    with contextlib.suppress(EverlearnError), open_database(context.settings) as database:
        if not SqlDocuments(database).any_of(question.tenant):
            note(
                f"the tenant {question.tenant} has no documents: publish some with 'everlearn publish documents', "
                "or name another with --tenant"
            )


def result(query_id: str, answer: Answer) -> dict[str, Any]:
    """A query's result for programs; one that failed has no hits and a reason."""
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
