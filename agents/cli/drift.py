"""``everlearn drift``: asks for a drift check, and shows the checks that were made and their reports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import timeout_option
from agents.cli.output import columns, emit, note, one_line
from agents.cli.sending import SOURCE, now
from agents.cli.stores import open_checks
from infra.settings import Settings
from schemas.drift import DRIFT_CHECK, DriftCheck
from schemas.errors import EverlearnError, Misuse

if TYPE_CHECKING:
    from infra.sql.drift import SqlDriftChecks

LOOK_SECONDS = 0.3


@click.group()
def drift() -> None:
    """Check for drift now, or list and open the reports.

    The monitor checks by itself whenever enough new answers have come.
    """


@drift.command("check")
@click.argument("task", required=False)
@click.option("--wait", is_flag=True, help="Until the check is made; then print what it found.")
@timeout_option(600.0, "With --wait: give up after so long.")
@json_option
@pass_context
def check(context: CommandContext, /, task: str | None, wait: bool, timeout: float) -> None:
    """Ask the monitor to check TASK, or every configured task, now."""
    from infra.kafka import KafkaClientConfig, RecordPublisher
    from schemas.envelope import encode, new_context
    from schemas.learning import DriftCheckRequested

    tasks = _chosen(context.settings, task)
    config = KafkaClientConfig.from_settings(context.settings)
    with open_checks(context.settings) as checks:
        before = {name: _newest(checks, name) for name in tasks}
        with RecordPublisher(config) as publisher:
            records = [encode(DriftCheckRequested(task=name), new_context(SOURCE, now=now())) for name in tasks]
            publisher.publish(records)
        if wait:
            for made in _wait(checks, before, timeout):
                _show(context, made)
            return
    for name in tasks:
        if context.json:
            emit({"task": name, "requested": True})
        else:
            click.echo(f"asked for a check of {name}: 'everlearn drift reports {name}' will show it")


@drift.command("reports")
@click.argument("task", required=False)
@click.option("-n", "limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
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
    if context.json:
        for each in found:
            emit(describe(each))
        return
    if not found:
        click.echo("No check was made yet: ask for one with 'everlearn drift check TASK --wait'.")
        return
    rows = [
        (each.checked_at, each.task, _verdict(each), each.remedy, each.reference.rows, each.current.rows, _last(each))
        for each in found
    ]
    click.echo(columns(("checked", "task", "verdict", "remedy", "reference", "current", "report"), rows))


def describe(made: DriftCheck) -> dict[str, object]:
    """A check for programs."""
    return {**DRIFT_CHECK.dump_python(made, mode="json"), "report": report_path(made)}


def report_path(made: DriftCheck) -> str | None:
    """Where a check's page lies, as a path."""
    return unquote(urlparse(made.report_uri).path) if made.report_uri else None


def _chosen(settings: Settings, task: str | None) -> list[str]:
    configured = sorted(settings.tasks)
    if not configured:
        raise EverlearnError("no task is configured: add one with 'everlearn tasks add'")
    if task is not None and task not in configured:
        raise Misuse(f"there is no task {task!r}: choose from {', '.join(configured)}")
    return configured if task is None else [task]


def _newest(checks: SqlDriftChecks, task: str) -> str | None:
    return next((made.check_id for made in checks.recent(task, 1)), None)


def _wait(checks: SqlDriftChecks, before: dict[str, str | None], timeout: float) -> Iterator[DriftCheck]:
    """Each task's next check, as it is made."""
    deadline = time.monotonic() + timeout
    waiting = dict(before)
    note(f"waiting for the check of {', '.join(waiting)}")
    while waiting:
        for task in list(waiting):
            made = next(iter(checks.recent(task, 1)), None)
            if made is not None and made.check_id != waiting[task]:
                del waiting[task]
                yield made
        if waiting and time.monotonic() > deadline:
            raise EverlearnError(
                f"no check of {', '.join(waiting)} was made within {timeout:g} s: see in 'everlearn status' whether a "
                "monitor runs"
            )
        time.sleep(LOOK_SECONDS if waiting else 0)


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
    if made.report_uri:
        click.echo(f"report: {report_path(made)}")


def _verdict(made: DriftCheck) -> str:
    if made.verdict is not None:
        return made.verdict
    return "no drift" if made.findings else "not checked"


def _last(made: DriftCheck) -> str:
    return report_path(made) or one_line("; ".join(made.reasons), 100)
