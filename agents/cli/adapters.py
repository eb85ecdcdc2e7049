"""``everlearn adapters``: lists the adapters in the registry, and shows one with its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import (
    JsonObject,
    counted,
    emit,
    facts,
    figures,
    iso_times,
    local_time,
    megabytes,
    one_line,
    show_rows,
)
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
from schemas.tasks import unknown_task

if TYPE_CHECKING:
    from infra.training.datasets import FolderDatasets

SHOWN_ID = 12
"""How many characters of an id are shown. Every command accepts the beginning of an id."""
SHOWN_ANSWERS = 5
SHOWN_FLIPS = 5
MOST_CHECKS = 1000
"""How many of the newest checks are searched for the one that started a training."""
RUN_FIELDS = ("run_id", "state", "attempt", "worker", "started_at", "finished_at")


@click.group()
def adapters() -> None:
    """List adapters, or show one back to dataset, feedback and cause."""


@adapters.command("list")
@click.argument("task", required=False)
@json_option
@pass_context
def list_adapters(context: CommandContext, /, task: str | None) -> None:
    """List the adapters of TASK, or of all tasks, newest first."""
    tasks = context.settings.tasks
    with open_registry(context.settings) as registry:
        records = registry.adapters(task)
    if not records and not context.json and task is not None and task not in tasks:
        raise Misuse(unknown_task(task, tasks))
    about = f" of {task}" if task else ""
    show_rows(
        records,
        ("adapter", "task", "version", "state", "serves as", "trained", "scores"),
        lambda record: (
            record.adapter_id[:SHOWN_ID],
            record.task,
            record.version,
            record.state,
            ", ".join(record.aliases) or None,
            record.created_at,
            one_line("; ".join(record.reasons) if record.state == "rejected" else figures(record.scores), 90) or None,
        ),
        fields=_fields,
        empty=f"No adapter{about} is registered: train one with 'everlearn train {task or 'TASK'} --wait'.",
        as_json=context.json,
    )


@adapters.command("show")
@click.argument("id", metavar="ID")
@json_option
@pass_context
def show_adapter(context: CommandContext, /, id: str) -> None:
    """Show an adapter and its lineage; the beginning of its ID is enough."""
    settings = context.settings
    with open_registry(settings) as registry:
        record = by_prefix(registry.adapters(), id)
    lineage, verdict = trace(settings, record), _verdict(settings, record)
    if context.json:
        files = {"folder": str(settings.adapters_folder / record.adapter_id), "files": _files(settings, record)}
        emit({**_fields(record), **files, **verdict, "lineage": as_json(lineage, record)})
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
        "try": verdict["tries"] and f"{verdict['tries']} on these rows, at the level {verdict['level']:.2g}",
        "flips": _flipped(verdict["flips"]),
        "report": record.report_uri,
        "folder": settings.adapters_folder / record.adapter_id,
        "files": _files(settings, record),
    }
    click.echo(facts({**shown, **as_facts(lineage, record)}))


def _fields(record: AdapterRecord) -> JsonObject:
    """The record for programs."""
    prints = {"trained_as": record.trained_as, "validated_as": record.validated_as}
    shown = {name: None if each is None else each.model_dump(mode="json") for name, each in prints.items()}
    return iso_times({**asdict(record), **shown})


def by_prefix(records: Sequence[AdapterRecord], wanted: str, task: str | None = None) -> AdapterRecord:
    """The adapter whose id begins so. Raises EverlearnError where there is none, or several.

    ``task``: the one that all records belong to, where they belong to one.
    """
    found = [each for each in records if each.adapter_id.startswith(wanted)]
    about = f" of {task}" if task is not None else ""
    if not found or not wanted:
        raise EverlearnError(f"the registry knows no adapter {wanted!r}{about}: see 'everlearn adapters list'")
    if len(found) > 1:
        names = ", ".join(each.adapter_id for each in found[:3])
        raise EverlearnError(f"{len(found)} adapters{about} begin with {wanted!r}: {names}; give more of the id")
    return found[0]


def _verdict(settings: Settings, record: AdapterRecord) -> dict[str, Any]:
    """What the report on the validation says of tries and flips; None for each where there is no such report here."""
    from infra.reports.validation import read_report

    report = read_report(settings.reports_folder / "validation" / record.task, record.adapter_id) or {}
    return {name: report.get(name) for name in ("tries", "level", "flips")}


def _flipped(flips: dict[str, Any] | None) -> str | None:
    """The rows that turned from right to wrong, for people: the number, and the first of them."""
    if flips is None:
        return None
    head = f"{flips['rows']} of {counted(flips['of'], 'row')} turned from right to wrong"
    lines = [
        f"{each['row_id'][:SHOWN_ID]}  {one_line(each['input'], 60)}: right is {one_line(each['right'], 30)}, said was "
        f"{one_line(each['reference'], 30)}, and now {one_line(each['candidate'], 30)}"
        for each in flips["listed"][:SHOWN_FLIPS]
    ]
    more = flips["rows"] - len(lines)
    return "\n".join([head, *lines, *([f"and {more:,} more"] if lines and more > 0 else [])])


def _files(settings: Settings, record: AdapterRecord) -> str:
    from infra.adapters.files import verify

    if record.removed_at is not None:
        return f"deleted, or about to be (since {record.removed_at:%Y-%m-%d}): it is not in service"
    try:
        verify(record.adapter_id, settings.adapters_folder / record.adapter_id)
    except AdapterMissing as error:
        return str(error)
    return "intact"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where an adapter comes from and where it was released. A part that is gone is None or empty.

    ``corrections``: the answers whose corrections it was trained on.
    """

    dataset: DatasetManifest | None = None
    corrections: tuple[str, ...] = ()
    run: Run | None = None
    check: DriftCheck | None = None
    releases: tuple[ReleaseChange, ...] = ()


def trace(settings: Settings, record: AdapterRecord) -> Lineage:
    """Reads the lineage of an adapter from the database and the datasets.

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
            check=causing(SqlDriftChecks(database).recent(record.task, MOST_CHECKS), record.cause),
            releases=tuple(concerning(SqlReleases(database).history(record.task), record.adapter_id)),
        )


def learned_from_user(row: DatasetRow) -> bool:
    """Whether an adapter was trained on a user's correction. Held-out rows were not trained on."""
    return row.origin == "correction" and row.split == "train"


def causing(checks: Iterable[DriftCheck], cause: str | None) -> DriftCheck | None:
    """The check whose DriftDetected has this event id. An output's id is derived from the id of its input."""
    for check in checks:
        finished = derived_id("monitor", "run", check.check_id)
        if cause is not None and derived_id(runs_source("monitor"), finished, "monitor", 0) == cause:
            return check
    return None


def concerning(changes: Iterable[ReleaseChange], adapter_id: str) -> list[ReleaseChange]:
    """The changes that brought an adapter into service, to another share or out of it, oldest first."""
    found: list[ReleaseChange] = []
    before: tuple[str | None, float] = (None, 0.0)
    for change in sorted(changes, key=lambda each: each.release.sequence):
        now_is = role(change, adapter_id)
        now = (now_is, change.release.share if now_is == "challenger" else 0.0)
        if now != before and (now[0] or before[0]):
            found.append(change)
        before = now
    return found


def role(change: ReleaseChange, adapter_id: str) -> str | None:
    """What an adapter is in a release: champion, challenger, or nothing."""
    if change.release.champion == adapter_id:
        return "champion"
    return "challenger" if change.release.challenger == adapter_id else None


def _rows(datasets: FolderDatasets, record: AdapterRecord) -> list[DatasetRow]:
    """The dataset's rows; none where its folder is gone, for SQL keeps the manifest longer."""
    try:
        return datasets.rows(record.dataset_id)
    except (EverlearnError, OSError):
        return []


def as_json(lineage: Lineage, record: AdapterRecord) -> JsonObject:
    """The lineage for programs."""
    manifest, run, check = lineage.dataset, lineage.run, lineage.check
    return {
        "dataset": None if manifest is None else iso_times(vars(manifest)),
        "corrections": {"count": len(lineage.corrections), "answers": list(lineage.corrections)},
        "run": None if run is None else iso_times({name: getattr(run, name) for name in RUN_FIELDS}),
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


def cause_kind(lineage: Lineage, record: AdapterRecord) -> str | None:
    """``drift``, ``request``, or None where the training names no event."""
    if record.cause is None:
        return None
    return "drift" if lineage.check is not None else "request"


def as_facts(lineage: Lineage, record: AdapterRecord) -> dict[str, object]:
    """The lineage for people."""
    manifest, run, check = lineage.dataset, lineage.run, lineage.check
    found: dict[str, object] = {"dataset": f"{record.dataset_id} (not here any more)"}
    if manifest is not None:
        origins = ", ".join(f"{number:,} {origin}" for origin, number in sorted(manifest.counts.items()))
        found["dataset"] = manifest.dataset_id
        found["rows"] = (
            f"{manifest.train_rows:,} to train on, {manifest.holdout_rows:,} held out, "
            f"{manifest.fresh_rows:,} of the window ({origins})"
        )
        found["window"] = _span(manifest.window_start, manifest.window_end)
    if lineage.corrections:
        shown = ", ".join(lineage.corrections[:SHOWN_ANSWERS])
        more = len(lineage.corrections) - SHOWN_ANSWERS
        rest = f" and {more:,} more" if more > 0 else ""
        found["learned from"] = f"{counted(len(lineage.corrections), 'corrected answer')}: {shown}{rest}"
    found["training run"] = record.run_id
    if run is not None and run.started_at is not None and run.finished_at is not None:
        seconds = (run.finished_at - run.started_at).total_seconds()
        found["training run"] = f"{record.run_id} ({seconds:,.0f} s, {counted(run.attempt, 'attempt')})"
    found["training"] = figures(record.metrics)
    if check is not None:
        found["because of"] = f"drift of {check.verdict}: {one_line('; '.join(check.reasons), 300)}"
        found["drift report"] = check.report_uri
    elif record.cause is not None:
        found["because of"] = f"the request {record.cause}"
    found["releases"] = "\n".join(_line(change, record.adapter_id) for change in lineage.releases)
    return found


def _line(change: ReleaseChange, adapter_id: str) -> str:
    now = role(change, adapter_id)
    part = f" for {change.release.share:.0%} of the users" if now == "challenger" else ""
    reason = f": {one_line(change.release.reason, 160)}" if change.release.reason else ""
    state = f"{now}{part}" if now else "out of service"
    return f"{local_time(change.at)}  {state} (release {change.release.sequence}){reason}"


def _span(start: datetime | None, end: datetime | None) -> str | None:
    if start is None or end is None:
        return None
    return f"{local_time(start)} to {local_time(end)}"
