"""Every table of Everlearn's SQL schema. ``infra/migrations`` creates them, and a test compares the two.

Columns give back exactly what was stored, the same on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator


class UtcMoment(TypeDecorator[datetime]):
    """A time with a zone, stored and returned in UTC to the microsecond. Refuses a time without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value.isoformat()} names no time zone: give it one")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A JSON value, stored as text: PostgreSQL's JSON types refuse some values and lose the order of fields.

    Refuses NaN and infinity, which JSON does not have.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


METADATA = MetaData()

documents = Table(
    "documents",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("embedding_model", Text, nullable=False),
    Column("title", Text),
    Column("uri", Text),
    Column("submitted_at", UtcMoment, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("next_chunk_count", Integer),
)

retired_versions = Table(
    "retired_versions",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("retired_at", UtcMoment, nullable=False),
    Index("retired_versions_by_age", "retired_at"),
)

# What the current versions were made from, so that another index can be built without reading the topic again.
contents = Table(
    "contents",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("event", LargeBinary, nullable=False),
)

indexes = Table(
    "indexes",
    METADATA,
    Column("index_id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("embedding_model", Text, nullable=False),
    Column("chunk_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcMoment, nullable=False),
    Column("served_at", UtcMoment),
)

# Embeddings of earlier texts, so that no text is embedded twice.
vectors = Table(
    "vectors",
    METADATA,
    Column("embedding_model", Text, primary_key=True),
    Column("text_hash", Text, primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    Column("used_at", UtcMoment, nullable=False),
    Index("vectors_by_use", "used_at"),
)

journal = Table(
    "journal",
    METADATA,
    Column("agent", Text, primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("outputs", LargeBinary, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("at", UtcMoment, nullable=False),
    # of the event's content; another event with the same identity has another one
    Column("digest", LargeBinary),
    Index("journal_by_age", "agent", "at"),
)
# This index is nearly always empty. It is read after every restart.
Index(
    "journal_unpublished",
    journal.c.agent,
    journal.c.at,
    sqlite_where=journal.c.published.is_(false()),
    postgresql_where=journal.c.published.is_(false()),
)

inflight = Table(
    "inflight",
    METADATA,
    Column("agent", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("suspects_to", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("alone", Boolean, nullable=False),
    Column("life", Text, nullable=False),
    Column("since", UtcMoment, nullable=False),
    Column("topic_id", Text),
)

# Which topics of Kafka this database belongs to. A topic that is made anew has another id, and its offsets repeat.
kafka_topics = Table(
    "kafka_topics",
    METADATA,
    Column("topic", Text, primary_key=True),
    Column("topic_id", Text, nullable=False),
    Column("cluster_id", Text, nullable=False),
    Column("met_at", UtcMoment, nullable=False),
    # the cluster that the topic of this name was on before, where that was another one
    Column("earlier_cluster", Text),
)

runs = Table(
    "runs",
    METADATA,
    Column("run_id", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("context", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("spared", Integer, nullable=False, server_default="0"),
    Column("worker", Text),
    Column("lease_until", UtcMoment),
    Column("due_at", UtcMoment, nullable=False),
    Column("result", Json, nullable=False),
    Column("created_at", UtcMoment, nullable=False),
    Column("finished_at", UtcMoment),
    Column("progress", Json),
    Column("started_at", UtcMoment),
    # the argument of this name, for the runs that have it
    Column("task", Text),
    Index("runs_by_state", "agent", "state", "due_at"),
    Index("runs_by_end", "agent", "finished_at"),
    Index("runs_by_task", "agent", "task", "created_at"),
)

leases = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("until", UtcMoment),
    Column("last", UtcMoment),
    # how often the scheduled times began again from an earlier one, because a clock was put back
    Column("generation", Integer),
)

# The conditions of the partial indexes. A query must repeat them word for word, or the database cannot use the index.
HAS_ANSWER = text("answered_at IS NOT NULL AND (finish_reason IS NULL OR finish_reason <> 'retrieve_only')")
IS_RATED = text("outcome IN ('approved', 'disapproved', 'corrected')")
IS_LABELLED = text("outcome IN ('approved', 'corrected')")


def _where(condition: ClauseElement) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}


interactions = Table(
    "interactions",
    METADATA,
    Column("answer_id", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("task", Text),
    Column("tenant", Text),
    # "user" and "session" are reserved words in SQL
    Column("user_id", Text),
    Column("session_id", Text),
    Column("question", Text),
    Column("answer", Text),
    Column("failure", Text),
    Column("sources", Json, nullable=False),
    Column("base_model", Text),
    Column("engine", Text),
    Column("adapter_id", Text),
    Column("release_sequence", BigInteger),
    Column("arm", Text),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("latency_ms", Double),
    Column("finish_reason", Text),
    Column("declined", Boolean),
    Column("answered_at", UtcMoment),
    Column("answer_at", UtcMoment),
    Column("answer_event", Text),
    Column("rating", Text),
    Column("rating_at", UtcMoment),
    Column("rating_event", Text),
    Column("rated_by", Text),
    Column("rating_trust", Text),
    Column("correction", Text),
    Column("correction_at", UtcMoment),
    Column("correction_event", Text),
    Column("corrected_by", Text),
    Column("correction_trust", Text),
    Column("reason", Text),
    Column("reason_at", UtcMoment),
    Column("reason_event", Text),
    Column("first_event_at", UtcMoment),
    Column("last_event_at", UtcMoment),
    # the turns before the question; NULL where there are none
    Column("history", Json),
    # when the row was last written, by the clock of the recorder; the other times are those that events name
    Column("recorded_at", UtcMoment),
    # the command line lists the rows that changed last, of all tasks or of one
    Index("interactions_by_time", "last_event_at"),
    Index("interactions_by_task", "task", "last_event_at"),
)
# Drift windows are the first and the last answers of a release and those after it, and the last rated ones.
_window = ("task", "arm", "release_sequence", "answered_at")
Index("interactions_by_release", *(interactions.c[name] for name in _window), **_where(HAS_ANSWER))
Index(
    "interactions_rated",
    *(interactions.c[name] for name in _window),
    **_where(text(f"{HAS_ANSWER.text} AND {IS_RATED.text}")),
)
# A training takes the labelled rows that arrived last.
Index("interactions_labelled", interactions.c.task, interactions.c.recorded_at, **_where(IS_LABELLED))

# The word of each rater on each answer. A row of ``interactions`` says what counts of them, and takes them along when
# it is deleted.
feedback = Table(
    "feedback",
    METADATA,
    Column("answer_id", Text, ForeignKey("interactions.answer_id", ondelete="CASCADE"), primary_key=True),
    Column("source", Text, primary_key=True),
    Column("rater", Text, primary_key=True),
    Column("rating", Text),
    Column("rating_at", UtcMoment),
    Column("rating_event", Text),
    Column("correction", Text),
    Column("correction_at", UtcMoment),
    Column("correction_event", Text),
    Column("reason", Text),
    Column("reason_at", UtcMoment),
    Column("reason_event", Text),
    Column("retraction_at", UtcMoment),
    Column("retraction_event", Text),
)


TALLIED = ("asked", "searched", "failed", "approved", "disapproved", "corrected")
"""``searched``: questions that only searched. The last four are numbers of rows by their outcome."""


RATED = TALLIED[3:]
"""The outcomes that somebody's rating or correction gives."""
GUARDED = ("declined", "asked_back", "latency_ms", "characters")
"""Only of users: what ``schemas.guardrails.guarded`` says of their answers, added up."""


def _counts(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


# How the rows of ``interactions`` turned out, so that nobody has to count them. A tally changes in the transaction that
# changes a row, by the difference between the row before and after (``infra/sql/tallies.py``). A row is tallied when
# it has a task, a release sequence, an arm and the time of an answer.
#
# Tallies say what happened and not what is stored: who deletes old rows leaves their tallies as they are. The tallies
# of a release may be deleted, in both tables, when nothing decides by them any more: when its sequence is lower than
# ``since_sequence`` of the task's release and than the baseline of its newest drift check, and the release has no row
# left. A late rating of such a row would be counted as one of a question that nobody asked.
#
# ``adapter_id`` is empty for the base model. The numbers of a release and arm are the sums over all slots. A
# transaction writes into one slot only, so that recorders seldom wait for each other; one slot alone says nothing.
arm_tallies = Table(
    "arm_tallies",
    METADATA,
    Column("task", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("release_sequence", BigInteger, primary_key=True),
    Column("adapter_id", Text, primary_key=True),
    Column("slot", Integer, primary_key=True),
    *_counts(*TALLIED),
    Index("arm_tallies_by_adapter", "task", "arm", "adapter_id", "release_sequence"),
)

# An answer counts for its asker, ``Interaction.asker``, and its rating for ``Interaction.rater``.
user_tallies = Table(
    "user_tallies",
    METADATA,
    Column("task", Text, primary_key=True),
    Column("release_sequence", BigInteger, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    *_counts(*TALLIED),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in GUARDED),
)
# Feedback whose answer has not come: few rows, which are deleted sooner than others.
Index("interactions_pending", interactions.c.last_event_at, **_where(interactions.c.answer_at.is_(None)))

examples = Table(
    "examples",
    METADATA,
    Column("example_id", Text, primary_key=True),
    Column("task", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("origin", Text),
    Column("submitted_at", UtcMoment, nullable=False),
    Column("golden", Boolean, nullable=False, server_default=false()),
    Column("recorded_at", UtcMoment),
    Index("examples_by_task", "task", "golden", "recorded_at"),
)

# What only this home knows. Nobody who sends events can foresee what is decided by it.
secrets = Table(
    "secrets",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

datasets = Table(
    "datasets",
    METADATA,
    Column("dataset_id", Text, primary_key=True),
    Column("task", Text, nullable=False),
    Column("created_at", UtcMoment, nullable=False),
    Column("manifest", Json, nullable=False),
    Index("datasets_by_task", "task", "created_at"),
    Index("datasets_by_age", "created_at"),
)

retention_rows = Table(
    "retention_rows",
    METADATA,
    Column("task", Text, primary_key=True),
    Column("row_id", Text, primary_key=True),
    Column("dataset_id", Text, nullable=False),
    Column("added_at", UtcMoment, nullable=False),
    Column("row", Json, nullable=False),
    # ``DatasetRow.sampling_key``: the rows with the lowest keys are a fair sample
    Column("sampling_key", Text),
    Index("retention_rows_by_key", "task", "sampling_key"),
)

drift_checks = Table(
    "drift_checks",
    METADATA,
    Column("check_id", Text, primary_key=True),
    Column("task", Text, nullable=False),
    Column("checked_at", UtcMoment, nullable=False),
    Column("baseline", BigInteger, nullable=False),
    Column("verdict", Text),
    Column("report_uri", Text),
    Column("details", Json, nullable=False),
    Index("drift_checks_by_task", "task", "checked_at"),
    Index("drift_checks_by_time", "checked_at"),
)

releases = Table(
    "releases",
    METADATA,
    Column("task", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("state", Json, nullable=False),
    Column("changed_at", UtcMoment, nullable=False),
)

release_history = Table(
    "release_history",
    METADATA,
    Column("task", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("event_type", Text, nullable=False),
    Column("cause", Text),
    Column("at", UtcMoment, nullable=False),
    Column("state", Json, nullable=False),
)
