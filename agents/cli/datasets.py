"""``everlearn datasets``: what adapters were trained on and judged by, and what was left out, with the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import TYPE_CHECKING

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import JsonObject, columns, counted, emit, facts, iso_times, local_time, one_line, show_rows
from agents.cli.stores import open_database
from infra.settings import Settings
from schemas.datasets import DATASET_ROW, QUARANTINED_ROW, REASONS, DatasetManifest, DatasetRow, QuarantinedRow
from schemas.errors import EverlearnError, Misuse
from schemas.tasks import unknown_task

if TYPE_CHECKING:
    from infra.training.datasets import FolderDatasets

SHOWN_ID = 12
"""How many characters of an id are shown. Every command accepts the beginning of an id."""
MOST = 1000
"""The newest datasets that are listed, and among which the beginning of an id is looked for."""
SHOWN_USERS = 10
SHOWN_ROWS = 3
"""How many quarantined rows of each reason the report shows."""
WIDEST = 60


@click.group()
def datasets() -> None:
    """List datasets, or show one: its rows by user and origin, and what was left out of it."""


@datasets.command("list")
@click.argument("task", required=False)
@json_option
@pass_context
def list_datasets(context: CommandContext, /, task: str | None) -> None:
    """List the datasets of TASK, or of all tasks, newest first."""
    tasks = context.settings.tasks
    with _open(context.settings) as store:
        found = store.recent(task, MOST)
    if not found and not context.json and task is not None and task not in tasks:
        raise Misuse(unknown_task(task, tasks))
    about = f" of {task}" if task else ""
    show_rows(
        found,
        ("dataset", "task", "made", "to train on", "held out", "golden", "new", "left out"),
        lambda each: (
            each.dataset_id[:SHOWN_ID],
            each.task,
            each.created_at,
            each.train_rows,
            each.holdout_rows,
            each.golden_rows,
            each.fresh_rows,
            sum(each.quarantined.values()),
        ),
        fields=_as_json,
        empty=f"There is no dataset{about}: the first training makes one, 'everlearn train {task or 'TASK'} --wait'.",
        as_json=context.json,
    )


@datasets.command("show")
@click.argument("id", metavar="ID")
@click.option("--rows", "what", flag_value="rows", help="List the rows instead, each with why it is in.")
@click.option("--quarantined", "what", flag_value="quarantined", help="List the rows that were left out instead.")
@json_option
@pass_context
def show_dataset(context: CommandContext, /, id: str, what: str | None) -> None:
    """Show a dataset; the beginning of its ID is enough."""
    with _open(context.settings) as store:
        manifest = store.manifest(id) or by_prefix(store.recent(None, MOST), id)
        if what == "rows":
            _list_rows(store.rows(manifest.dataset_id), as_json=context.json)
            return
        quarantined = store.quarantined(manifest.dataset_id)
    if what == "quarantined":
        _list_quarantined(quarantined, as_json=context.json)
    elif context.json:
        emit(_as_json(manifest))
    else:
        minimum = context.settings.trainer_policy(manifest.task).minimum_golden
        click.echo("\n".join(_report(manifest, quarantined, minimum)))


def by_prefix(found: Sequence[DatasetManifest], wanted: str) -> DatasetManifest:
    """Returns the dataset whose id begins so. Raises EverlearnError where there is none, or several."""
    fitting = [each for each in found if wanted and each.dataset_id.startswith(wanted)]
    if not fitting:
        raise EverlearnError(f"there is no dataset {wanted!r}: see 'everlearn datasets list'")
    if len(fitting) > 1:
        names = ", ".join(each.dataset_id for each in fitting[:3])
        raise EverlearnError(f"{len(fitting)} datasets begin with {wanted!r}: {names}; give more of the id")
    return fitting[0]


@contextmanager
def _open(settings: Settings) -> Iterator[FolderDatasets]:
    from infra.training.datasets import FolderDatasets

    with open_database(settings) as database:
        yield FolderDatasets(settings.datasets_folder, database)


def _as_json(manifest: DatasetManifest) -> JsonObject:
    """The manifest for programs. ``rows``: how many there are in all."""
    fields = dict(vars(manifest))
    return {
        **iso_times({name: fields[name] for name in fields if name != "counts"}),
        "rows": _total(manifest),
        "by_origin": manifest.counts,
    }


def _total(manifest: DatasetManifest) -> int:
    return manifest.train_rows + manifest.holdout_rows + manifest.golden_rows


def _report(manifest: DatasetManifest, quarantined: Sequence[QuarantinedRow], minimum_golden: int) -> Iterator[str]:
    """The manifest for people: facts, and for each reason some of the rows that were left out."""
    golden = f"{manifest.golden_rows:,}" if manifest.golden_rows else f"none ({minimum_golden} are needed)"
    yield facts(
        {
            "dataset": manifest.dataset_id,
            "task": manifest.task,
            "made": manifest.created_at,
            "rows": f"{manifest.train_rows:,} to train on, {manifest.holdout_rows:,} held out, "
            f"{manifest.fresh_rows:,} new",
            "golden": golden,
            "window": None
            if manifest.window_start is None or manifest.window_end is None
            else f"{local_time(manifest.window_start)} to {local_time(manifest.window_end)}",
            "by origin": _counts(manifest.counts),
            "by tenant": _counts(manifest.by_tenant),
            "by user": _counts(manifest.by_user),
            "left out": "\n".join(f"{count:,} {REASONS[why]}" for why, count in manifest.quarantined.items())
            or "nothing",
            "file": manifest.uri,
        }
    )
    by_reason = groupby(sorted(quarantined, key=lambda each: each.reason), key=lambda each: each.reason)
    some = [each for _, alike in by_reason for each in islice(alike, SHOWN_ROWS)]
    if some:
        yield ""
        yield "Some of what was left out (all: everlearn datasets show ID --quarantined):"
        yield columns(_QUARANTINED, [_cells(each) for each in some])


def _counts(counts: dict[str, int]) -> str | None:
    """Numbers by name, the largest first, and how many names are not shown."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    named = ", ".join(f"{number:,} {one_line(name, WIDEST)}" for name, number in ordered[:SHOWN_USERS])
    more = len(ordered) - SHOWN_USERS
    rows = sum(number for _, number in ordered[SHOWN_USERS:])
    return f"{named} and {counted(rows, 'row')} of {more:,} others" if more > 0 else named


_QUARANTINED = ("reason", "detail", "user", "input", "output")


def _cells(each: QuarantinedRow) -> tuple[object, ...]:
    row = each.row
    return each.reason, each.detail, row.user, one_line(row.input, WIDEST), one_line(row.output, WIDEST)


def _list_rows(rows: Iterable[DatasetRow], *, as_json: bool) -> None:
    show_rows(
        list(rows),
        ("split", "new", "why", "input", "output"),
        lambda row: (
            row.split,
            row.fresh,
            row.why or row.origin,
            one_line(row.input, WIDEST),
            one_line(row.output, WIDEST),
        ),
        fields=lambda row: DATASET_ROW.dump_python(row, mode="json"),
        empty="The dataset has no rows.",
        as_json=as_json,
    )


def _list_quarantined(quarantined: Sequence[QuarantinedRow], *, as_json: bool) -> None:
    show_rows(
        quarantined,
        _QUARANTINED,
        _cells,
        fields=lambda each: QUARANTINED_ROW.dump_python(each, mode="json"),
        empty="No row was left out.",
        as_json=as_json,
    )
