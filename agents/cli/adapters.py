"""``everlearn adapters``: lists the adapters in the registry, and shows one with its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import columns, counted, emit, facts, figures, megabytes, one_line, record_fields
from agents.cli.stores import open_database, open_registry
from agents.delivery.runs import runs_source
from infra.settings import Settings
from schemas.datasets import DatasetManifest, DatasetRow
from schemas.delivery import Run
from schemas.drift import DriftCheck
from schemas.envelope import derived_id
from schemas.errors import AdapterMissing, EverlearnError, Misuse
from schemas.registry import AdapterRecord
from schemas.release_state import ReleaseChange

if TYPE_CHECKING:
    pass

SHOWN_ID = 12
"""So much of an id tells adapters apart; every command takes the beginning for the whole."""


def by_prefix(records: Sequence[AdapterRecord], wanted: str) -> AdapterRecord:
    """The adapter whose id begins so. Raises EverlearnError where it is none, or several."""
    found = [each for each in records if each.adapter_id.startswith(wanted)]
    if not found or not wanted:
        raise EverlearnError(f"the registry knows no adapter {wanted!r}: see 'everlearn adapters list'")
    if len(found) > 1:
        names = ", ".join(each.adapter_id for each in found[:3])
        raise EverlearnError(f"{len(found)} adapters begin with {wanted!r}: {names}; give more of the id")
    return found[0]


@click.group()
def adapters() -> None:
    """List adapters, or show one back to dataset, feedback and cause."""


@adapters.command("list")
@click.argument("task", required=False)
@json_option
@pass_context
def list_adapters(context: CommandContext, /, task: str | None) -> None:
    """List the adapters of TASK, or of all tasks, newest first."""
    configured = context.settings.tasks
    with open_registry(context.settings) as registry:
        records = registry.adapters(task)
    if context.json:
        for record in records:
            emit(record_fields(record))
        return
    if not records:
        if task is not None and task not in configured:
            raise Misuse(f"there is no task {task!r}: choose from {', '.join(sorted(configured)) or 'none'}")
        about = f" of {task}" if task else ""
        click.echo(f"No adapter{about} is registered: train one with 'everlearn train {task or 'TASK'} --wait'.")
        return
    rows = [
        (
            record.adapter_id[:SHOWN_ID],
            record.task,
            record.version,
            record.state,
            ", ".join(record.aliases) or None,
            record.created_at,
            one_line("; ".join(record.reasons) if record.state == "rejected" else figures(record.scores), 90) or None,
        )
        for record in records
    ]
    click.echo(columns(("adapter", "task", "version", "state", "serves as", "trained", "scores"), rows))


@adapters.command("show")
@click.argument("id", metavar="ID")
@json_option
@pass_context
def show_adapter(context: CommandContext, /, id: str) -> None:
    """Show an adapter and its lineage; the beginning of its ID is enough."""
    settings = context.settings
    with open_registry(settings) as registry:
        record = by_prefix(registry.adapters(), id)
    lineage = trace(settings, record)
    if context.json:
        files = {"folder": str(settings.adapters_folder / record.adapter_id), "files": _files(settings, record)}
        emit({**record_fields(record), **files, "lineage": as_json(lineage, record)})
        return
    shown = {
        "adapter": record.adapter_id,
        "task": record.task,
        "version": record.version,
        "state": record.state,
        "serves as": record.aliases,
        "base model": record.base_model,
        "size": megabytes(record.size_bytes),
        "trained": record.created_at,
        "scores": figures(record.scores),
        "reasons": "\n".join(record.reasons),
        "report": record.report_uri,
        "folder": settings.adapters_folder / record.adapter_id,
        "files": _files(settings, record),
    }
    click.echo(facts({**shown, **as_facts(lineage, record)}))


def _files(settings: Settings, record: AdapterRecord) -> str:
    from infra.adapters.files import verify

    try:
        verify(record.adapter_id, settings.adapters_folder / record.adapter_id)
    except AdapterMissing as error:
        return str(error)
    return "intact"


SHOWN_ANSWERS = 5


_CHECKS = 1000
"""Checks that are looked through for the one that started a training."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What was found; None and empty where a part is not there any more.

    ``corrections``: the answers whose corrections it was trained on.
    """

    dataset: DatasetManifest | None = None
    corrections: tuple[str, ...] = ()
    run: Run | None = None
    check: DriftCheck | None = None
    releases: tuple[ReleaseChange, ...] = ()


def trace(settings: Settings, record: AdapterRecord) -> Lineage:
    """Everything that the database and the datasets say of an adapter.

    Raises ConfigurationError when there is no database yet, Unavailable when it cannot be reached.
    """
    from infra.sql.drift import SqlDriftChecks
    from infra.sql.releases import SqlReleases
    from infra.sql.runs import SqlRunStore
    from infra.training.datasets import FolderDatasets

    with open_database(settings) as database:
        datasets = FolderDatasets(settings.datasets_folder, database)
        manifest = datasets.manifest(record.dataset_id)
        rows = _rows(datasets, record) if manifest is not None else []
        return Lineage(
            dataset=manifest,
            corrections=tuple(dict.fromkeys(row.origin_id for row in rows if learned_from_user(row))),
            run=SqlRunStore(database).show(record.run_id),
            check=causing(SqlDriftChecks(database).recent(record.task, _CHECKS), record.cause),
            releases=tuple(concerning(SqlReleases(database).history(record.task), record.adapter_id)),
        )


def learned_from_user(row: DatasetRow) -> bool:
    """Whether an adapter was trained on what a user put right; rows that were held out taught it nothing."""
    return row.origin == "correction" and row.split == "train"


def causing(checks: Iterable[DriftCheck], cause: str | None) -> DriftCheck | None:
    """The check whose DriftDetected has this event id: an output's id follows from what it is an output of."""
    for check in checks:
        finished = derived_id("monitor", "run", check.check_id)
        if cause is not None and derived_id(runs_source("monitor"), finished, "monitor", 0) == cause:
            return check
    return None


def concerning(changes: Iterable[ReleaseChange], adapter_id: str) -> list[ReleaseChange]:
    """The changes that brought an adapter into service, to another share or out of it, oldest first."""
    told: list[ReleaseChange] = []
    before: tuple[str | None, float] = (None, 0.0)
    for change in sorted(changes, key=lambda each: each.release.sequence):
        now_is = role(change, adapter_id)
        now = (now_is, change.release.share if now_is == "challenger" else 0.0)
        if now != before and (now[0] or before[0]):
            told.append(change)
        before = now
    return told


def role(change: ReleaseChange, adapter_id: str) -> str | None:
    """What an adapter is in a release: champion, challenger, or nothing."""
    if change.release.champion == adapter_id:
        return "champion"
    return "challenger" if change.release.challenger == adapter_id else None


def _rows(datasets: Any, record: AdapterRecord) -> list[DatasetRow]:
    """A dataset's folder may be gone though its manifest is kept in SQL."""
    try:
        rows: list[DatasetRow] = datasets.rows(record.dataset_id)
    except (EverlearnError, OSError):
        return []
    return rows


def as_json(lineage: Lineage, record: AdapterRecord) -> dict[str, Any]:
    """For programs."""
    manifest, run, check = lineage.dataset, lineage.run, lineage.check
    return {
        "dataset": None if manifest is None else _plain(vars(manifest)),
        "corrections": {"count": len(lineage.corrections), "answers": list(lineage.corrections)},
        "run": None if run is None else _plain({name: getattr(run, name) for name in _RUN}),
        "cause": {
            "event": record.cause,
            "kind": cause_kind(lineage, record),
            "check_id": check.check_id if check else None,
            "verdict": check.verdict if check else None,
            "report_uri": check.report_uri if check else None,
            "reasons": list(check.reasons) if check else [],
        },
        "releases": [
            {
                "at": change.at.isoformat(),
                "event": change.event_type,
                "sequence": change.release.sequence,
                "role": role(change, record.adapter_id),
                "stage": change.release.stage,
                "share": change.release.share,
                "reason": change.release.reason,
            }
            for change in lineage.releases
        ],
    }


_RUN = ("run_id", "state", "attempt", "worker", "started_at", "finished_at")


def cause_kind(lineage: Lineage, record: AdapterRecord) -> str | None:
    """``drift``, ``request``, or None where the training names no event."""
    if record.cause is None:
        return None
    return "drift" if lineage.check is not None else "request"


def as_facts(lineage: Lineage, record: AdapterRecord) -> dict[str, object]:
    """For people: a line each, the releases several."""
    manifest, run, check = lineage.dataset, lineage.run, lineage.check
    facts: dict[str, object] = {"dataset": f"{record.dataset_id} (not here any more)"}
    if manifest is not None:
        origins = ", ".join(f"{number:,} {origin}" for origin, number in sorted(manifest.counts.items()))
        facts["dataset"] = manifest.dataset_id
        facts["rows"] = (
            f"{manifest.train_rows:,} to train on, {manifest.holdout_rows:,} held out, "
            f"{manifest.fresh_rows:,} of the window ({origins})"
        )
        facts["window"] = _span(manifest.window_start, manifest.window_end)
    if lineage.corrections:
        shown = ", ".join(lineage.corrections[:SHOWN_ANSWERS])
        more = len(lineage.corrections) - SHOWN_ANSWERS
        rest = f" and {more:,} more" if more > 0 else ""
        facts["learned from"] = f"{counted(len(lineage.corrections), 'corrected answer')}: {shown}{rest}"
    facts["training run"] = record.run_id
    if run is not None and run.started_at is not None and run.finished_at is not None:
        seconds = (run.finished_at - run.started_at).total_seconds()
        facts["training run"] = f"{record.run_id} ({seconds:,.0f} s, {counted(run.attempt, 'attempt')})"
    facts["training"] = figures(record.metrics)
    if check is not None:
        facts["because of"] = f"drift of {check.verdict}: {one_line('; '.join(check.reasons), 300)}"
        facts["drift report"] = check.report_uri
    elif record.cause is not None:
        facts["because of"] = f"the request {record.cause}"
    facts["releases"] = "\n".join(_line(change, record.adapter_id) for change in lineage.releases)
    return facts


def _line(change: ReleaseChange, adapter_id: str) -> str:
    now = role(change, adapter_id)
    part = f" for {change.release.share:.0%} of the users" if now == "challenger" else ""
    reason = f": {one_line(change.release.reason, 160)}" if change.release.reason else ""
    at = change.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{at}  {f'{now}{part}' if now else 'out of service'} (release {change.release.sequence}){reason}"


def _span(start: datetime | None, end: datetime | None) -> str | None:
    if start is None or end is None:
        return None
    return " to ".join(each.astimezone().strftime("%Y-%m-%d %H:%M:%S") for each in (start, end))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
