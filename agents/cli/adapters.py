"""``everlearn adapters``: the adapters in the registry, and one of them back to what it learned from."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.lineage import as_facts, as_json, trace
from agents.cli.output import columns, emit, facts, one_line
from agents.cli.registered import SHOWN_ID, by_prefix, describe, figures, megabytes, open_registry
from infra.settings import Settings
from schemas.errors import AdapterMissing, Misuse
from schemas.registry import AdapterRecord


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
            emit(describe(record))
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
        emit({**describe(record), **files, "lineage": as_json(lineage, record)})
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
