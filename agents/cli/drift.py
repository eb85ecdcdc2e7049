"""``everlearn drift``: asks for a drift check, and shows the checks that were made and their reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import timeout_option
from agents.cli.output import emit, note, one_line, show_rows
from agents.cli.sending import publish_events
from agents.cli.stores import open_checks
from agents.cli.waiting import Deadline, look_until, waiting
from infra.settings import Settings
from schemas.drift import DRIFT_CHECK, DriftCheck
from schemas.errors import EverlearnError, Misuse
from schemas.learning import DriftCheckRequested
from schemas.tasks import unknown_task

if TYPE_CHECKING:
    from infra.sql.drift import SqlDriftChecks


LISTED = 3
"""How many of the answers to label a line of the list names."""


@click.group()
def drift() -> None:
    """Check for drift now, or list and open the reports.

    The monitor also checks on its own whenever enough new answers have arrived.
    """


@drift.command("check")
@click.argument("task", required=False)
@click.option("--wait", is_flag=True, help="Until the check is made; then print what it found.")
@timeout_option(600.0, "With --wait: give up after this time.")
@json_option
@pass_context
def check(context: CommandContext, /, task: str | None, wait: bool, timeout: float) -> None:
    """Ask the monitor to check TASK, or every configured task, now."""
    tasks = _chosen(context.settings, task)
    with waiting(timeout if wait else None) as deadline, open_checks(context.settings) as checks:
        before = {name: [made.check_id for made in checks.recent(name, 1)] for name in tasks}
        publish_events(context.settings, *(DriftCheckRequested(task=name) for name in tasks))
        if deadline is not None:
            for made in _wait(checks, before, deadline):
                _show(context, made)
            return
    for name in tasks:
        if context.json:
            emit({"task": name, "requested": True})
        else:
            click.echo(f"asked for a check of {name}: 'everlearn drift reports {name}' will show it")


@drift.command("reports")
@click.argument("task", required=False)
@click.option("-n", "limit", type=click.IntRange(1), default=20, show_default=True, help="The most checks to list.")
@click.option("--open", "newest", is_flag=True, help="Print the path of the newest report's page and nothing else.")
@json_option
@pass_context
def reports(context: CommandContext, /, task: str | None, limit: int, newest: bool) -> None:
    """List the checks of TASK, or of all tasks, newest first."""
    with open_checks(context.settings) as checks:
        found = checks.recent(task, limit)
    if newest:
        written = next((path for path in map(report_path, found) if path is not None), None)
        if written is None:
            raise EverlearnError("there is no report yet: ask for one with 'everlearn drift check TASK --wait'")
        click.echo(written)
        return
    show_rows(
        found,
        ("checked", "task", "verdict", "remedy", "reference", "current", "report", "label first"),
        lambda made: (
            made.checked_at, made.task, _verdict(made), made.remedy, made.reference.rows, made.current.rows,
            _report_or_reasons(made), ", ".join(made.to_label[:LISTED]),
        ),
        fields=describe,
        empty="No check was made yet: ask for one with 'everlearn drift check TASK --wait'.",
        as_json=context.json,
    )  # fmt: skip


def describe(made: DriftCheck) -> dict[str, object]:
    """A check for programs."""
    return {**DRIFT_CHECK.dump_python(made, mode="json"), "report": report_path(made)}


def report_path(made: DriftCheck) -> str | None:
    """The path of a check's report page."""
    return unquote(urlparse(made.report_uri).path) if made.report_uri else None


def _chosen(settings: Settings, task: str | None) -> list[str]:
    configured = sorted(settings.tasks)
    if not configured:
        raise EverlearnError("no task is configured: add one with 'everlearn tasks add'")
    if task is not None and task not in configured:
        raise Misuse(unknown_task(task, configured))
    return configured if task is None else [task]


def _wait(checks: SqlDriftChecks, before: dict[str, list[str]], deadline: Deadline) -> Iterator[DriftCheck]:
    """Yields each task's next check as it is made. Raises EverlearnError when one takes too long.

    ``before``: of each task, the ids of the checks that do not count.
    """
    missing = dict(before)

    def next_check() -> DriftCheck | None:
        newest = (made for task in missing for made in checks.recent(task, 1))
        return next((made for made in newest if made.check_id not in missing[made.task]), None)

    note(f"waiting for the check of {', '.join(missing)}")
    while missing:
        made = look_until(next_check, deadline)
        if made is None:
            raise EverlearnError(
                f"no check of {', '.join(missing)} was made within {deadline.seconds:g} s: see in 'everlearn status' "
                "whether a monitor runs"
            )
        del missing[made.task]
        yield made


def _show(context: CommandContext, made: DriftCheck) -> None:
    if context.json:
        emit(describe(made))
        return
    reasons = one_line("; ".join(made.reasons), 400)
    if not made.findings:
        click.echo(f"{made.task}: not checked: {reasons}")
        return
    verdict = f"drift of {made.verdict}, remedy {made.remedy}" if made.verdict else "no drift"
    click.echo(f"{made.task}: {verdict}: {reasons}")
    if made.to_label:
        click.echo(f"label first: {', '.join(made.to_label)}")
    if made.report_uri:
        click.echo(f"report: {report_path(made)}")


def _verdict(made: DriftCheck) -> str:
    if made.verdict is not None:
        return made.verdict
    return "no drift" if made.findings else "not checked"


def _report_or_reasons(made: DriftCheck) -> str:
    return report_path(made) or one_line("; ".join(made.reasons), 100)
