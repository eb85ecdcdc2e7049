"""``everlearn status``: shows the workers, their state, and the addresses of Kafka and Milvus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import JsonObject, columns, emit, note, printable
from agents.cli.stores import open_releases
from agents.promoter.changed_tasks import notes
from schemas.errors import EverlearnError, Unavailable

if TYPE_CHECKING:
    from infra.kafka.fleet import WorkerReport
    from infra.local.supervisor import Process
    from infra.settings import Settings

NOTICE = timedelta(days=7)
"""How long the status says that the home met another Kafka cluster."""


@click.command()
@json_option
@pass_context
def status(context: CommandContext, /) -> int:
    """Show the workers, their lag and the endpoints. Exit code 0 when all are ready, 1 otherwise."""
    found = gather(context.settings)
    if context.json:
        emit(found)
    else:
        _show(found)
    return 0 if found["ready"] else 1


def gather(settings: Settings) -> JsonObject:
    """The status as one object: ``ready``, ``workers``, ``endpoints``.

    Where there are any, also ``notice``, ``warnings``, ``problem``, and ``held``: the tasks whose canary waits for
    ratings that did not come, with what is missing; and ``changed``: the tasks that are not what their adapters were
    validated on, with what differs.
    """
    from infra.disks import scarce_disks
    from infra.kafka import kafka_connection
    from infra.kafka.fleet import Fleet, alive, silence_bound
    from infra.local.endpoints import read_endpoints
    from infra.local.supervisor import Supervisor
    from infra.local.supervisord_conf import AGENTS

    supervisor = Supervisor(settings.run_folder)
    problem, processes, reports = None, [], {}
    try:
        if supervisor.running:
            processes = [each for each in supervisor.processes() if each.group == AGENTS]
        elif _needs_stack(settings):
            raise Unavailable(f"nothing runs in {settings.home}: start it with 'everlearn up'")
        with Fleet(kafka_connection(settings)) as fleet:
            silence = silence_bound(settings.worker.heartbeat_seconds)
            reports = alive(fleet.reports(), now=datetime.now(UTC), silence=silence)
    except EverlearnError as error:
        problem = str(error)
    disks = scarce_disks(settings)
    full = [str(disk) for disk in disks if disk.full]
    if full:  # other problems follow from it
        problem = "; ".join(full if problem is None else [*full, problem])
    workers = describe(reports, processes)
    found: JsonObject = {
        "ready": problem is None and bool(workers) and all(worker["ready"] for worker in workers),
        "workers": workers,
        "endpoints": read_endpoints(settings) if supervisor.running or not _needs_stack(settings) else {},
    }
    found.update(_of_releases(settings))
    notice = _other_cluster(settings)
    if notice is not None:
        found["notice"] = notice
    if warnings := [str(disk) for disk in disks if not disk.full]:
        found["warnings"] = warnings
    return found if problem is None else {**found, "problem": problem}


def _other_cluster(settings: Settings) -> str | None:
    """Says that the home's database met another Kafka cluster a short while ago, and what that means."""
    from agents.cli.stores import open_database
    from agents.delivery.topic_ids import meaning
    from infra.sql.kafka_topics import SqlKnownTopics

    try:
        with open_database(settings) as database:
            met = SqlKnownTopics(database).all()
    except EverlearnError:
        return None  # there is no database yet, or the workers say why it cannot be reached
    moved = [each for each in met if each.earlier_cluster and datetime.now(UTC) - each.met_at < NOTICE]
    if not moved:
        return None
    last = max(moved, key=lambda each: each.met_at)
    return f"{last.met_at:%Y-%m-%d %H:%M} UTC: {meaning(str(last.earlier_cluster), last.topic.cluster_id)}"


def describe(reports: dict[str, WorkerReport], processes: list[Process]) -> list[JsonObject]:
    """A row for each living worker, and for each supervised one that has not reported since it was started."""
    pids = {process.name: process.pid for process in processes}
    rows = []
    for name, report in reports.items():
        worker = report.worker
        if pids.get(name, worker.pid) != worker.pid:
            continue  # the report of the process that ran here before
        rows.append(
            {
                "agent": worker.agent,
                "worker": name,
                "pid": worker.pid,
                "host": worker.host,
                "ready": worker.state == "ready",
                "state": worker.state,
                "lag": worker.lag,
                "serves": [each.model_dump(mode="json") for each in worker.serves],
                "detail": worker.detail,
            }
        )
    unreported = [process for process in processes if process.name not in {row["worker"] for row in rows}]
    rows += [
        {
            "agent": process.name.rpartition("-")[0],
            "worker": process.name,
            "pid": process.pid,
            "host": None,
            "ready": False,
            "state": "starting" if process.pid else process.state.lower(),
            "lag": None,
            "serves": [],
            "detail": None,
        }
        for process in unreported
    ]
    return sorted(rows, key=lambda row: str(row["worker"]))


def _show(found: JsonObject) -> None:
    if found["workers"]:
        head = ("worker", "pid", "state", "lag", "serves", "detail")
        rows = [[worker[name] for name in head[:4]] + _serving(worker) for worker in found["workers"]]
        click.echo(columns(head, rows))
    for name, place in found["endpoints"].items():
        click.echo(f"{name}: {place}")
    for task, reason in found.get("held", {}).items():
        click.echo(f"canary of {task}: {printable(reason)}")
    for task, sentences in found.get("changed", {}).items():
        for sentence in sentences:
            click.echo(f"task {task}: {printable(sentence)}")
    if "notice" in found:
        note(f"notice: {found['notice']}")
    for warning in found.get("warnings", ()):
        note(f"warning: {warning}")
    if "problem" in found:
        note(f"error: {found['problem']}")
    elif not found["ready"]:
        note("not ready")


def _of_releases(settings: Settings) -> JsonObject:
    """What the releases say. Without a database there are none to show; the workers report what they wait for."""
    from agents.wiring.tasks import fingerprints

    try:
        with open_releases(settings) as releases:
            found = releases.all()
    except EverlearnError:
        return {}
    present = fingerprints(settings)
    held = {each.task: each.held for each in found if each.held}
    changed = {each.task: notes(each, present[each.task]) for each in found if each.task in present}
    changed = {task: sentences for task, sentences in changed.items() if sentences}
    return {**({"held": held} if held else {}), **({"changed": changed} if changed else {})}


def _serving(worker: JsonObject) -> list[object]:
    serves = [f"{each['task']}: {', '.join(each['adapters']) or 'base'}" for each in worker["serves"]]
    return ["; ".join(serves), worker["detail"] or ""]


def _needs_stack(settings: Settings) -> bool:
    from schemas.policies import EMBEDDED

    return EMBEDDED in (settings.kafka.bootstrap_servers, settings.milvus.uri)
