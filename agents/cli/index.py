"""``everlearn index``: shows the search indexes, compares them with the configuration, and rebuilds one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import timeout_option
from agents.cli.output import columns, counted, emit, note, one_line, share_bar
from agents.cli.sending import SOURCE, now
from agents.cli.stores import open_database
from agents.cli.waiting import follow_request, in_words
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.documents import IndexNotRebuilt, IndexRebuildRequested, IndexRebuilt
from schemas.envelope import encode, new_context
from schemas.errors import ConfigurationError, EverlearnError, Misuse
from schemas.indexes import DEFAULT_SCOPE, Index

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.sql.database import Database
    from schemas.delivery import Run
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
    from agents.cli.options import choose_task
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


def describe_document(state: DocumentState) -> dict[str, Any]:
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


REBUILD = "'everlearn index rebuild'"


UNKNOWN_LIMIT = 10**9
"""Stands in where the model's files do not tell how much it reads; token counts are not compared then."""


def gather(settings: Settings, database: Database, tell: Callable[[str], None]) -> dict[str, Any]:
    """One object. ``tell``: takes a line that says why Milvus was not asked."""
    from agents.indexer.rebuild_requests import KIND
    from infra.sql.documents import SqlDocuments, SqlRetiredVersions
    from infra.sql.indexes import SqlIndexes
    from infra.sql.runs import SqlRunStore

    documents, chunks = SqlDocuments(database).totals()
    indexes = SqlIndexes(database).all()
    runs = [run for run in SqlRunStore(database).unfinished("indexer") if run.kind == KIND]
    stored = _stored_chunks(settings, [index for index in indexes if index.state != "retired"], tell)
    return {
        "documents": documents,
        "chunks": chunks,
        "waiting_for_deletion": SqlRetiredVersions(database).count(),
        "indexes": [_describe_index(index, stored.get(index.index_id)) for index in indexes],
        "differences": differences(settings, indexes, documents) + lost(indexes, stored, documents, chunks),
        "rebuild": _describe_run(runs[0]) if runs else None,
    }


def differences(settings: Settings, indexes: Sequence[Index], documents: int) -> list[str]:
    """A line for each thing that a serving index was made with and that the settings ask for otherwise."""
    from agents.wiring.indexes import own_scopes

    scopes = [DEFAULT_SCOPE, *own_scopes(settings)]
    serving = {index.scope: index for index in indexes if index.state == "serving"}
    found = []
    for scope in scopes:
        task, index = scope or None, serving.get(scope)
        if index is not None:
            found += [f"{shared(task)} {each}: run {mend(task)}" for each in _differs(settings, scope, index)]
        elif documents:
            found.append(f"{shared(task)} is missing: run {mend(task)}")
    found += [
        f"the task {scope} asks for no index of its own any more: start the indexer anew, and it shares the others'"
        for scope in serving
        if scope not in scopes
    ]
    return found


def lost(indexes: Sequence[Index], stored: Mapping[str, int], documents: int, chunks: int) -> list[str]:
    """A line for each serving index that holds less than it should, as when Milvus' data were lost or moved away."""
    found = []
    for index in indexes:
        task, holds = index.scope or None, stored.get(index.index_id)
        if index.state != "serving" or holds is None:
            continue
        if task is None and holds < chunks:
            found.append(f"{shared(task)} holds {holds:,} of {chunks:,} chunks: run {mend(task)}")
        elif task is not None and not holds and documents:
            found.append(f"{shared(task)} holds nothing: run {mend(task)}")
    return found


def shared(task: str | None) -> str:
    """An index in words."""
    return "the shared index" if task is None else f"the index of {task}"


def mend(task: str | None) -> str:
    """The command that builds an index as it is configured."""
    return REBUILD if task is None else f"{REBUILD[:-1]} --task {task}'"


def _differs(settings: Settings, scope: str, index: Index) -> list[str]:
    from agents.wiring.indexes import asked_recipe
    from infra.embedding.embedder import token_limit

    model, made = settings.embedding.model, index.recipe
    limit = token_limit(model)
    try:
        asked = asked_recipe(settings, scope, model, limit or UNKNOWN_LIMIT)
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
    """By index id; those that Milvus cannot tell of are missing."""
    if not indexes:
        return {}
    from agents.wiring.indexes import stores_of

    counts: dict[str, int] = {}
    try:
        stores = stores_of(settings, make=False)
        try:
            for index in indexes:
                counts[index.index_id] = stores.of(index).count()
        finally:
            stores.close()
    except EverlearnError as error:
        tell(f"the stored chunks were not counted: {error}")
    return counts


def _describe_index(index: Index, stored: int | None) -> dict[str, Any]:
    return {
        "index_id": index.index_id,
        "scope": index.scope,
        "state": index.state,
        "embedding_model": index.recipe.embedding_model,
        "chunk_tokens": index.recipe.chunk_tokens,
        "overlap_tokens": index.recipe.overlap_tokens,
        "dimension": index.dimension,
        "created_at": index.created_at.isoformat(),
        "served_at": _time(index.served_at),
        "stored_chunks": stored,
    }


def _describe_run(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "task": run.arguments.get("task"),
        "state": run.state,
        "attempt": run.attempt,
        "progress": run.progress,
        "asked_at": _time(run.created_at),
        "started_at": _time(run.started_at),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
