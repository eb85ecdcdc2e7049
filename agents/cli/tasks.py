"""``everlearn tasks``: lists the tasks, adds one, and names every fault of the configuration."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import click
from pydantic import ValidationError

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, checked, explanations
from agents.cli.options import MODES
from agents.cli.output import columns, counted, emit, one_line
from agents.promoter.changed_tasks import notes, unknown
from agents.prompt import instruction, instruction_tokens
from agents.validator import metrics
from infra.settings import (
    TABLES_OF_TASKS,
    Settings,
    WrongSettings,
    locate,
    merge_environment,
    misspelled,
    override_faults,
)
from infra.settings_file import append_task, read_tables
from schemas.errors import ConfigurationError, EverlearnError, Misuse
from schemas.policies import AnswererSettings, IndexerSettings
from schemas.tasks import Task
from schemas.words import comparable

METRICS = tuple(metrics.METRICS)
"""How answers can be scored."""


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
@click.option("--chunk-tokens", type=int, help="Give the task an index of its own, with chunks of this many tokens.")
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
    faults = find_faults({name: settings}, {}, **_sizes(context.settings), count=_counter(context.settings))
    if faults:
        raise Misuse("; ".join(faults))
    _, path = locate(context.home, context.config)
    append_task(path, name, settings)
    click.echo(f"added the task {name} to {path}")


@tasks.command("check")
@json_option
@click.pass_context
def check_tasks(ctx: click.Context) -> None:
    """Name every fault of the configuration; exit code 1 when there is one.

    Also names in what the tasks differ from those that their adapters were validated on, which is no fault.
    """
    context = ctx.ensure_object(CommandContext)
    _, path = locate(context.home, context.config)
    tables = read_tables(path)
    merge_environment(tables)
    tasks = tables.get("tasks", {})
    count: Callable[[Task], int] | None = None
    changed: dict[str, list[str]] = {}
    try:
        sizes, others = _sizes(context.settings), []
        count = _counter(context.settings)
        changed = _changed(context.settings)
    except WrongSettings as error:  # its faults of tasks are found again below, with more advice
        sizes, others = _sizes(None), [each for each in error.faults if not each.startswith(("tasks.", "tasks:"))]
    faults = find_faults(tasks, tables, **sizes, count=count) + others
    if context.json:
        emit({"path": str(path), "tasks": list(tasks), "faults": faults, **({"changed": changed} if changed else {})})
    else:
        for name, sentences in changed.items():
            for sentence in sentences:
                click.echo(f"tasks.{name}: {sentence}")
        for fault in faults:
            click.echo(f"{path}: {fault}")
        if not faults:
            click.echo(f"{path}: {counted(len(tasks), 'task')}, no fault")
    ctx.exit(1 if faults else 0)


def _changed(settings: Settings) -> dict[str, list[str]]:
    """Returns what the adapters in service do not know about their tasks; nothing where there is no database."""
    from agents.cli.stores import open_releases
    from agents.wiring.tasks import fingerprints

    try:
        with open_releases(settings) as releases:
            found = releases.all()
    except EverlearnError:
        return {}
    present = fingerprints(settings)
    told = {
        each.task: [*notes(each, present[each.task]), *map(_unknown, unknown(each))]
        for each in found
        if each.task in present
    }
    return {task: sentences for task, sentences in told.items() if sentences}


def _unknown(adapter: str) -> str:
    return f"{adapter} does not say which task it was trained on, so it is taken for the one that was configured first"


def _sizes(settings: Settings | None) -> dict[str, int]:
    indexer = settings.indexer if settings else IndexerSettings()
    answerer = settings.answerer if settings else AnswererSettings()
    return {"chunk_tokens": indexer.chunk_tokens, "context_tokens": answerer.context_tokens}


def _counter(settings: Settings) -> Callable[[Task], int]:
    """Returns what counts the tokens of an instruction. It loads the base model's tokenizer, which takes seconds."""

    def count(task: Task) -> int:
        from infra.models.chat import ChatFormat
        from infra.models.loading import load_tokenizer

        chat = ChatFormat(load_tokenizer(settings))
        return instruction_tokens(task, lambda messages: len(chat.encode(messages)))

    return count


SEARCHING = ("top_k", "min_score", "mode", "floor", "unknown", "chunk_tokens", "overlap_tokens")
"""Settings of a task that searches documents."""
STAND_IN = "unnamed"
"""In place of what is missing or wrong and reported, so that the rest of the table is still looked at."""


def find_faults(
    tasks: Mapping[str, object],
    tables: Mapping[str, object],
    *,
    chunk_tokens: int,
    context_tokens: int,
    count: Callable[[Task], int] | None = None,
) -> list[str]:
    """Names every fault of the tables under ``[tasks]``, each with its place; none when all is well.

    ``tables``: all tables of the file, because a task's overrides must fit what these say. ``count``: counts the tokens
    of a task's instruction; None where the base model is not known.
    """
    if not tasks:
        return ["tasks: no task is configured: add one with 'everlearn tasks add NAME --instruction …'"]
    found: list[str] = []
    for name, table in tasks.items():
        if not isinstance(table, Mapping):
            found.append(f"tasks.{name}: is not a table: write [tasks.{name}]")
            continue
        known = [each for each in Task.model_fields if each != "name"]
        faults = [misspelled(each, known) for each in table if each not in {*Task.model_fields, *TABLES_OF_TASKS}]
        settings = {key: table[key] for key in table if key in Task.model_fields and key not in TABLES_OF_TASKS}
        try:
            task = Task(**{"name": name, **settings})
        except ValidationError as error:
            faults += explanations(error, {})
            wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
            sound = {key: value for key, value in settings.items() if key not in wrong}
            task = Task(**{"instruction": STAND_IN, **sound, "name": STAND_IN})
        faults += _inconsistent(task, table, chunk_tokens=chunk_tokens, context_tokens=context_tokens)
        if count is not None and (fault := _too_long(task, context_tokens, count)) is not None:
            faults.append(fault)
        faults += override_faults(table, tables)
        found += [f"tasks.{name}.{fault}" for fault in faults]
    return found


_TEMPLATE_TOKENS = 64
"""More than the tokens that a chat template and a prompt's own words add to an instruction."""


def _too_long(task: Task, context_tokens: int, count: Callable[[Task], int]) -> str | None:
    """Returns the fault of a task whose instruction leaves no room for a question, or None."""
    if len(instruction(task).encode()) + _TEMPLATE_TOKENS < context_tokens:
        return None  # no token is shorter than a byte
    try:
        tokens = count(task)
    except ConfigurationError as error:
        return f"instruction: its tokens cannot be counted: {error}"
    if tokens < context_tokens:
        return None
    what = "takes" if not task.labels else f"and its {len(task.labels)} labels take"
    return (
        f"instruction: {what} {tokens} tokens, and [answerer] context_tokens = {context_tokens} leaves no room for a "
        "question: shorten it, or raise the setting"
    )


def _inconsistent(task: Task, table: Mapping[str, object], *, chunk_tokens: int, context_tokens: int) -> list[str]:
    found = []
    if not task.instruction.strip():
        found.append("instruction: is empty")
    if task.metric is not None and task.metric not in METRICS:
        near = difflib.get_close_matches(task.metric, METRICS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(METRICS)}"
        found.append(f"metric: {task.metric!r} is unknown; {hint}")
    repeated = [label for label, count in Counter(map(comparable, task.labels)).items() if count > 1]
    if repeated:
        found.append(f"labels: {', '.join(map(repr, repeated))} stand there more than once (case is ignored)")
    # The prompt lists the labels with commas between them, on one line.
    unlisted = [label for label in task.labels if "," in label or label.splitlines() not in ([], [label])]
    if unlisted:
        found.append(f"labels: {', '.join(map(repr, unlisted))} must not hold a comma or a line break: rename")
    if any(not label.strip() for label in task.labels):
        found.append("labels: one is empty")
    if len(task.labels) == 1:
        found.append("labels: a choice needs two labels at least")
    if not task.retrieval:
        found += [f"{setting}: has no effect without retrieval = true" for setting in SEARCHING if setting in table]
        return found
    if task.chunk_tokens is None and task.overlap_tokens is not None:
        found.append("overlap_tokens: has no effect without chunk_tokens, which gives the task an index of its own")
    elif task.chunk_tokens is not None and (task.overlap_tokens or 0) >= task.chunk_tokens:
        found.append(f"overlap_tokens: is as long as a chunk of {task.chunk_tokens} tokens: lower it")
    if task.floor == 0 and "unknown" in table:
        found.append("unknown: has no effect without a floor above 0")
    chunk_tokens = task.chunk_tokens or chunk_tokens
    if task.top_k * chunk_tokens > context_tokens:
        found.append(
            f"top_k: {task.top_k} chunks of {chunk_tokens} tokens are more than [answerer] context_tokens = "
            f"{context_tokens}: lower one or raise the other"
        )
    return found
