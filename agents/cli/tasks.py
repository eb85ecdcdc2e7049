"""``everlearn tasks``: what is configured, adding to it, and every fault in it."""

from __future__ import annotations

from typing import Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, checked
from agents.cli.options import MODES
from agents.cli.output import columns, counted, emit, one_line
from agents.cli.task_faults import METRICS, find_faults
from infra.document_settings import IndexerSettings
from infra.settings import AnswererSettings, Settings, locate
from infra.task_file import append_task, raw_tasks
from schemas.errors import ConfigurationError, Misuse
from schemas.tasks import Task


@click.group()
def tasks() -> None:
    """List, add or check the configured tasks."""


@tasks.command("list")
@json_option
@pass_context
def list_tasks(context: CommandContext) -> None:
    """Show the tasks of everlearn.toml."""
    configured = context.settings.tasks.values()
    if context.json:
        for task in configured:
            emit(task.model_dump(mode="json"))
        return
    if not configured:
        click.echo("No task is configured: add one with 'everlearn tasks add NAME --instruction …'.")
        return
    rows = [
        (task.name, task.retrieval, task.metric, len(task.labels) or None, task.max_tokens, one_line(task.instruction))
        for task in configured
    ]
    click.echo(columns(("task", "retrieval", "metric", "labels", "max tokens", "instruction"), rows))


@tasks.command("add")
@click.argument("name")
@click.option("--instruction", required=True, help="What the model is to do: the prompt's first part.")
@click.option("--retrieval/--no-retrieval", default=False, help="Put documents into the prompt.  [default: no]")
@click.option("--metric", type=click.Choice(METRICS), help="How answers are scored.")
@click.option("--label", "labels", multiple=True, help="An allowed answer; once for each.")
@click.option("--top-k", type=int, help="Chunks put into the prompt.")
@click.option("--max-tokens", type=int, help="Longest answer.")
@click.option("--min-score", type=float, help="Leave out chunks less similar than this, -1 to 1.")
@click.option("--mode", type=click.Choice(MODES), help="How documents are searched.  [default: hybrid]")
@click.option("--floor", type=float, help="Say that no document answers where none is this relevant, 0 to 1.")
@click.option("--chunk-tokens", type=int, help="An index of its own, with chunks of so many tokens.")
@click.option("--overlap-tokens", type=int, help="What two neighbouring chunks share in that index.")
@pass_context
def add_task(context: CommandContext, /, name: str, **given: Any) -> None:
    """Append a task to everlearn.toml; its comments stay.

    Agents that run already see it after a restart.
    """
    settings = {key: value for key, value in given.items() if value not in (None, ()) and value is not False}
    if "labels" in settings:
        settings["labels"] = list(settings["labels"])
    try:
        checked(lambda: Task(**{"name": name, **settings}))
    except Faulty as error:
        raise Misuse(str(error)) from None
    faults = find_faults({name: settings}, **_sizes(context.settings))
    if faults:
        raise Misuse("; ".join(faults))
    _, path = locate(context.home, context.config)
    append_task(path, name, settings)
    click.echo(f"added the task {name} to {path}")


@tasks.command("check")
@json_option
@click.pass_context
def check_tasks(ctx: click.Context) -> None:
    """Name every fault of the configuration; exit code 1 when there is one."""
    context = ctx.ensure_object(CommandContext)
    _, path = locate(context.home, context.config)
    tables = raw_tasks(path)
    try:
        sizes, others = _sizes(context.settings), []
    except ConfigurationError as error:
        sizes, others = _sizes(None), _elsewhere(error)
    faults = find_faults(tables, **sizes) + others
    if context.json:
        emit({"path": str(path), "tasks": list(tables), "faults": faults})
    else:
        for fault in faults:
            click.echo(f"{path}: {fault}")
        if not faults:
            click.echo(f"{path}: {counted(len(tables), 'task')}, no fault")
    ctx.exit(1 if faults else 0)


def _sizes(settings: Settings | None) -> dict[str, int]:
    indexer = settings.indexer if settings else IndexerSettings()
    answerer = settings.answerer if settings else AnswererSettings()
    return {"chunk_tokens": indexer.chunk_tokens, "context_tokens": answerer.context_tokens}


def _elsewhere(error: ConfigurationError) -> list[str]:
    """The faults that settings found outside the tasks, which are checked more closely here."""
    message = str(error).partition(": ")[2] or str(error)
    return [each for each in message.split("; ") if not each.startswith("tasks.") and each != "tasks"]
