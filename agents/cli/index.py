"""``everlearn index``: shows the search indexes, compares them with the configuration, and rebuilds one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task, timeout_option
from agents.cli.output import JsonObject, columns, conclude, counted, emit, iso_times, note, one_line
from agents.cli.sending import publish_events
from agents.cli.stores import open_database
from agents.cli.waiting import progress_text, request_run
from agents.indexer import AGENT
from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.errors import ConfigurationError, EverlearnError, Misuse
from schemas.indexes import Index

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.sql.database import Database
    from schemas.delivery import Run
    from schemas.features import DocumentState

PAGE = 500
"""How many documents are read from the database at a time."""
REBUILD = "'everlearn index rebuild'"
UNKNOWN_LIMIT = 10**9
"""Stands in where the model's files do not say how many tokens it reads. Token counts are not compared then."""


@click.group()
def index() -> None:
    """Show the search indexes, or rebuild one."""


@index.command()
@click.option("--documents", is_flag=True, help="List the indexed documents first.")
@json_option
@pass_context
def status(context: CommandContext, /, documents: bool) -> None:
    """Show the indexes, and how they differ from everlearn.toml."""
    with open_database(context.settings) as database:
        if documents:
            _show_documents(database, context.json)
        found = gather(context.settings, database, note)
    conclude(found, render(found), as_json=context.json)


@index.command()
@click.option("--task", help="The task whose own index it is.  [default: the index that the others share]")
@click.option("--wait", is_flag=True, help="Show the progress, and return when the new index serves.")
@timeout_option(86_400.0, "With --wait: give up after this time.")
@json_option
@pass_context
def rebuild(context: CommandContext, /, task: str | None, wait: bool, timeout: float) -> None:
    """Rebuild an index as everlearn.toml says. The old one serves until the new one is ready."""
    settings = context.settings
    _check_task(settings, task)
    request = IndexRebuildRequested(task=task)
    if not wait:
        [request_id] = publish_events(settings, request)
        sentence = f"asked to rebuild {index_name(task)} (request {request_id})"
        conclude({"task": task, "request": request_id}, sentence, as_json=context.json)
        return
    ended = request_run(settings, request, topic="indexing.v1", agent=AGENT, seconds=timeout)
    if isinstance(ended, IndexNotRebuilt):
        raise EverlearnError(f"{index_name(task)} was not rebuilt: {ended.reason}")
    if not isinstance(ended, IndexRebuilt):
        raise EverlearnError(
            f"{index_name(task)} was not rebuilt within {timeout:g} s: see with 'everlearn index status' how far it is "
            "and with 'everlearn status' whether an indexer is ready, or wait longer with --timeout"
        )
    done = f"{counted(ended.documents, 'document')}, {counted(ended.chunks, 'chunk')}"
    sentence = f"rebuilt {index_name(task)}: {done} by {ended.embedding_model}"
    conclude(ended.model_dump(mode="json"), sentence, as_json=context.json)


def render(found: JsonObject) -> str:
    """The state for people: totals, a table, the differences from the configuration, the rebuild under way."""
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
        at, share = run["progress"], "waiting"
        if at:
            share = f"{at.get('done', 0.0):.0%}, {progress_text(at)}"
        lines.append(f"{index_name(run['task'])} is being rebuilt: {share}")
    return "\n".join(lines)


def _check_task(settings: Settings, task: str | None) -> None:
    from agents.wiring.indexer import configured_indexes

    if task is not None and choose_task(task, settings.tasks) not in configured_indexes(settings).own_scopes:
        raise Misuse(
            f"the task {task} has no index of its own: set chunk_tokens in [tasks.{task}] (with retrieval = true), or "
            f"run {REBUILD} without --task for the index that it shares"
        )


def _show_documents(database: Database, as_json: bool) -> None:
    for page in _pages(database):
        if as_json:
            for state in page:
                emit(describe_document(state))
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


def describe_document(state: DocumentState) -> JsonObject:
    """A document for programs."""
    return iso_times(
        {
            "tenant": state.tenant,
            "document_id": state.document_id,
            "version": state.version,
            "content_hash": state.content_hash,
            "chunks": state.chunk_count,
            "title": state.title,
            "uri": state.uri,
            "submitted_at": state.submitted_at,
        }
    )


def gather(settings: Settings, database: Database, tell: Callable[[str], None]) -> JsonObject:
    """The state as one object. ``tell`` takes a line that says why Milvus was not asked."""
    from agents.indexer.rebuild_requests import KIND
    from infra.sql.documents import SqlDocuments, SqlRetiredVersions
    from infra.sql.indexes import SqlIndexes
    from infra.sql.runs import SqlRunStore

    documents, chunks = SqlDocuments(database).totals()
    indexes = SqlIndexes(database).all()
    runs = [run for run in SqlRunStore(database).unfinished(AGENT) if run.kind == KIND]
    stored = _stored_chunks(settings, [index for index in indexes if index.state != "retired"], tell)
    return {
        "documents": documents,
        "chunks": chunks,
        "waiting_for_deletion": SqlRetiredVersions(database).count(),
        "indexes": [_describe_index(index, stored.get(index.index_id)) for index in indexes],
        "differences": differences(settings, indexes, documents) + missing_chunks(indexes, stored, documents, chunks),
        "rebuild": _describe_run(runs[0]) if runs else None,
    }


def differences(settings: Settings, indexes: Sequence[Index], documents: int) -> list[str]:
    """A line for each property in which a serving index differs from the settings."""
    from agents.wiring.indexer import configured_indexes

    scopes = configured_indexes(settings).scopes
    serving = {index.scope: index for index in indexes if index.state == "serving"}
    found = []
    for scope in scopes:
        index, name, remedy = serving.get(scope), index_name(scope or None), f"run {rebuild_command(scope or None)}"
        if index is not None:
            found += [f"{name} {each}: {remedy}" for each in _differs(settings, scope, index)]
        elif documents:
            found.append(f"{name} is missing: {remedy}")
    found += [
        f"the task {scope} asks for no index of its own any more: restart the indexer, and it shares the others'"
        for scope in serving
        if scope not in scopes
    ]
    return found


def missing_chunks(indexes: Sequence[Index], stored: Mapping[str, int], documents: int, chunks: int) -> list[str]:
    """A line for each serving index that lacks chunks, as when the data of Milvus were lost or moved."""
    found = []
    for index in indexes:
        task, holds = index.scope or None, stored.get(index.index_id)
        if index.state != "serving" or holds is None:
            continue
        if task is None and holds < chunks:
            found.append(f"{index_name(task)} holds {holds:,} of {chunks:,} chunks: run {rebuild_command(task)}")
        elif task is not None and not holds and documents:
            found.append(f"{index_name(task)} holds nothing: run {rebuild_command(task)}")
    return found


def index_name(task: str | None) -> str:
    """What messages call an index."""
    return "the shared index" if task is None else f"the index of {task}"


def rebuild_command(task: str | None) -> str:
    """The command that builds an index as it is configured."""
    return REBUILD if task is None else f"{REBUILD[:-1]} --task {task}'"


def _differs(settings: Settings, scope: str, index: Index) -> list[str]:
    from agents.wiring.indexer import configured_indexes
    from infra.embedding.embedder import token_limit

    model, made = settings.embedding.model, index.recipe
    limit = token_limit(model)
    try:
        asked = configured_indexes(settings).recipe(scope, model, limit or UNKNOWN_LIMIT)
    except ConfigurationError as error:
        return [f"cannot be built as it is configured ({error})"]
    found = []
    if asked.embedding_model != made.embedding_model:
        found.append(f"was made with {made.embedding_model}, and {asked.embedding_model} is configured")
    for name, stored, wanted in (
        ("chunks", made.chunk_tokens, asked.chunk_tokens if limit else made.chunk_tokens),
        ("an overlap", made.overlap_tokens, asked.overlap_tokens),
    ):
        if stored != wanted:
            found.append(f"has {name} of {stored} tokens, and {wanted} are configured")
    return found


def _stored_chunks(settings: Settings, indexes: Sequence[Index], tell: Callable[[str], None]) -> dict[str, int]:
    """The number of stored chunks by index id; indexes that Milvus cannot count are left out."""
    if not indexes:
        return {}
    from infra.milvus.stores import MilvusStores

    counts: dict[str, int] = {}
    try:
        stores = MilvusStores.from_settings(settings, make=False)
        try:
            for index in indexes:
                counts[index.index_id] = stores.of(index).count()
        finally:
            stores.close()
    except EverlearnError as error:
        tell(f"the stored chunks were not counted: {error}")
    return counts


def _describe_index(index: Index, stored: int | None) -> JsonObject:
    return iso_times(
        {
            "index_id": index.index_id,
            "scope": index.scope,
            "state": index.state,
            "embedding_model": index.recipe.embedding_model,
            "chunk_tokens": index.recipe.chunk_tokens,
            "overlap_tokens": index.recipe.overlap_tokens,
            "dimension": index.dimension,
            "created_at": index.created_at,
            "served_at": index.served_at,
            "stored_chunks": stored,
        }
    )


def _describe_run(run: Run) -> JsonObject:
    return iso_times(
        {
            "run_id": run.run_id,
            "task": run.arguments.get("task"),
            "state": run.state,
            "attempt": run.attempt,
            "progress": run.progress,
            "asked_at": run.created_at,
            "started_at": run.started_at,
        }
    )
