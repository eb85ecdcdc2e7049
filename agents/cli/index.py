"""``everlearn index``: what there is to search in, whether it is what is configured, and building it anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agents.cli.bars import share_bar
from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.database import open_database
from agents.cli.index_state import REBUILD, gather, shared
from agents.cli.options import timeout_option
from agents.cli.output import columns, counted, emit, note, one_line
from agents.cli.requests import follow_request, in_words
from agents.cli.sending import SOURCE, now
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.envelope import encode, new_context
from schemas.errors import EverlearnError, Misuse

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.sql.database import Database
    from schemas.features import DocumentState

AGENT = "indexer"
PAGE = 500


@click.group()
def index() -> None:
    """Show the search indexes, or build one anew."""


@index.command()
@click.option("--documents", is_flag=True, help="First each document that is indexed.")
@json_option
@pass_context
def status(context: CommandContext, /, documents: bool) -> None:
    """Show the indexes, and where everlearn.toml asks for something else than they were made with."""
    with open_database(context.settings) as database:
        if documents:
            _show_documents(database, context.json)
        found = gather(context.settings, database, note)
    if context.json:
        emit(found)
    else:
        click.echo(render(found))


@index.command()
@click.option("--task", help="The task whose own index it is.  [default: the index that the others share]")
@click.option("--wait", is_flag=True, help="Show the progress, and return when the new index serves.")
@timeout_option(86_400.0, "With --wait: give up after so long.")
@json_option
@pass_context
def rebuild(context: CommandContext, /, task: str | None, wait: bool, timeout: float) -> None:
    """Build an index anew, as everlearn.toml says; the one before serves meanwhile."""
    settings = context.settings
    _check_task(settings, task)
    config = KafkaClientConfig.from_settings(settings)
    origin = new_context(SOURCE, now=now())
    request = encode(IndexRebuildRequested(task=task), origin)
    if not wait:
        with RecordPublisher(config) as publisher:
            publisher.publish([request])
        if context.json:
            emit({"task": task, "request": origin.id})
        else:
            click.echo(f"asked to rebuild {shared(task)} (request {origin.id})")
        return
    with (
        RecordReader(config, ["indexing.v1"], from_end=True) as reader,
        RecordPublisher(config) as publisher,
        open_database(settings) as database,
        share_bar() as show,
    ):
        from infra.sql.runs import SqlRunStore

        runs, ends = SqlRunStore(database), (IndexRebuilt, IndexNotRebuilt)
        publisher.publish([request])
        ended = follow_request(reader, origin.id, ends, lambda: runs.unfinished(AGENT), show, patience_seconds=timeout)
    if isinstance(ended, IndexNotRebuilt):
        raise EverlearnError(f"{shared(task)} was not rebuilt: {ended.reason}")
    if not isinstance(ended, IndexRebuilt):
        raise EverlearnError(
            f"{shared(task)} was not rebuilt within {timeout:g} s: see with 'everlearn index status' how far it is and "
            "with 'everlearn status' whether an indexer is ready, or wait longer with --timeout"
        )
    if context.json:
        emit(ended.model_dump(mode="json"))
    else:
        done = f"{counted(ended.documents, 'document')}, {counted(ended.chunks, 'chunk')}"
        click.echo(f"rebuilt {shared(task)}: {done} by {ended.embedding_model}")


def render(found: dict[str, Any]) -> str:
    """The state for people: totals, a table, what differs from what is configured, what is under way."""
    totals = f"{counted(found['documents'], 'document')}, {counted(found['chunks'], 'chunk')}"
    if waiting := found["waiting_for_deletion"]:
        totals += f"; {counted(waiting, 'replaced version')} to be deleted"
    head = ("index", "for", "state", "embedding model", "tokens", "overlap", "since", "stored chunks")
    rows = [
        (
            each["index_id"],
            each["scope"] or "every other task",
            each["state"],
            each["embedding_model"],
            each["chunk_tokens"],
            each["overlap_tokens"],
            datetime.fromisoformat(each["served_at"] or each["created_at"]),
            each["stored_chunks"],
        )
        for each in found["indexes"]
    ]
    lines = [totals, *([columns(head, rows)] if rows else ["no index yet: an indexer makes it when it starts"])]
    lines += found["differences"]
    if run := found["rebuild"]:
        share = f"{run['progress'].get('done', 0.0):.0%}, {in_words(run['progress'])}" if run["progress"] else "waiting"
        lines.append(f"{shared(run['task'])} is being rebuilt: {share}")
    return "\n".join(lines)


def _check_task(settings: Settings, task: str | None) -> None:
    from agents.cli.questions import choose_task
    from agents.wiring.indexes import own_scopes

    if task is not None and choose_task(task, settings.tasks) not in own_scopes(settings):
        raise Misuse(
            f"the task {task} has no index of its own: set chunk_tokens in [tasks.{task}] (with retrieval = true), or "
            f"run {REBUILD} without --task for the index that it shares"
        )


def _show_documents(database: Database, as_json: bool) -> None:
    for page in _pages(database):
        if as_json:
            for state in page:
                emit(describe(state))
        else:
            head = ("tenant", "document", "chunks", "submitted", "title")
            rows = [
                (each.tenant, one_line(each.document_id, 60), each.chunk_count, each.submitted_at,
                 one_line(each.title or "", 60))
                for each in page
            ]  # fmt: skip
            click.echo(columns(head, rows) + "\n")


def _pages(database: Database) -> Iterator[list[DocumentState]]:
    from infra.sql.documents import SqlDocuments

    documents, after = SqlDocuments(database), None
    while page := documents.states(after, PAGE):
        yield page
        after = (page[-1].tenant, page[-1].document_id)


def describe(state: DocumentState) -> dict[str, Any]:
    """A document for programs."""
    return {
        "tenant": state.tenant,
        "document_id": state.document_id,
        "version": state.version,
        "content_hash": state.content_hash,
        "chunks": state.chunk_count,
        "title": state.title,
        "uri": state.uri,
        "submitted_at": state.submitted_at.isoformat(),
    }
