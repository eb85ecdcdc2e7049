"""The state of the indexes: what SQL and Milvus hold, and what the configuration asks for instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigurationError, EverlearnError
from schemas.indexes import DEFAULT_SCOPE, Index

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.sql.database import Database
    from schemas.delivery import Run

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
        "indexes": [_describe(index, stored.get(index.index_id)) for index in indexes],
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


def _describe(index: Index, stored: int | None) -> dict[str, Any]:
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
