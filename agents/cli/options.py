"""Options that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import get_args

import click

from agents.cli.context import C
from schemas.documents import Metadata
from schemas.errors import Misuse
from schemas.filters import FilterError, parse_filter
from schemas.questions import SearchMode
from schemas.tasks import Task, unknown_task

MODES = get_args(SearchMode)
LONGEST_SECONDS = 7 * 24 * 3600.0
LONGEST_KEY = 64
MOST_METADATA = 64


def timeout_option(seconds: float, help: str) -> Callable[[C], C]:
    """``--timeout SECONDS``. It has its own check, because the ranges of click accept NaN."""

    def check(_ctx: click.Context, _parameter: click.Parameter, value: float) -> float:
        if not 0 < value <= LONGEST_SECONDS:
            raise click.BadParameter(f"give seconds above 0 and up to {LONGEST_SECONDS:,.0f}")
        return value

    return click.option(
        "--timeout", type=float, metavar="SECONDS", default=seconds, show_default=True, callback=check, help=help
    )


def metadata_option(help: str) -> Callable[[C], C]:
    """``--metadata KEY=VALUE``, which may be repeated; the command gets a dictionary.

    A value that is a JSON number, text, true or false is read as JSON. Every other value is a text.
    """

    def read(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Metadata:
        metadata: Metadata = {}
        for each in values:
            key, equals, value = each.partition("=")
            if not equals or not 0 < len(key) <= LONGEST_KEY:
                raise click.BadParameter(f"{each!r} is not KEY=VALUE with a key of 1 to {LONGEST_KEY} characters")
            if key in metadata:
                raise click.BadParameter(f"names {key!r} twice")
            metadata[key] = _value(value)
        if len(metadata) > MOST_METADATA:
            raise click.BadParameter(f"takes {MOST_METADATA} keys at most")
        return metadata

    return click.option("--metadata", multiple=True, metavar="KEY=VALUE", callback=read, help=help)


def _value(text: str) -> str | int | float | bool:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return text


def search_options(command: C) -> C:
    """``--mode`` and ``--filter``, as QuestionAsked has them."""

    def check(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_filter(value)
            except FilterError as error:
                raise click.BadParameter(str(error)) from None
        return value

    mode = click.option("--mode", type=click.Choice(MODES), help="How documents are searched.  [default: the task's]")
    where = click.option(
        "--filter",
        metavar="FILTER",
        callback=check,
        help="""Only documents whose metadata fit, such as 'lang = "en" and year >= 2024'.""",
    )
    return mode(where(command))


def choose_task(name: str | None, tasks: Mapping[str, Task], *, retrieval: bool = False) -> str:
    """The named task, or else the first one (with ``retrieval``, the first that uses it). Raises Misuse."""
    if name is not None:
        if name not in tasks:
            raise Misuse(unknown_task(name, tasks))
        return name
    if not tasks:
        raise Misuse("no task is configured: run 'everlearn init', or 'everlearn tasks add NAME --instruction …'")
    for task in tasks.values():
        if task.retrieval or not retrieval:
            return task.name
    raise Misuse("no configured task uses retrieval: set retrieval = true in one, or name a task with --task")
