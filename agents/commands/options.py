"""Options that several commands take in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from schemas.filters import FilterError, parse_filter
from schemas.questions import SearchMode

MODES = get_args(SearchMode)
C = TypeVar("C", bound=Callable[..., Any])
LONGEST_SECONDS = 7 * 24 * 3600.0


def timeout_option(seconds: float, help: str) -> Callable[[C], C]:
    """``--timeout SECONDS``; click's own ranges let NaN pass."""

    def check(_ctx: click.Context, _parameter: click.Parameter, value: float) -> float:
        if not 0 < value <= LONGEST_SECONDS:
            raise click.BadParameter(f"give seconds above 0 and up to {LONGEST_SECONDS:,.0f}")
        return value

    return click.option(
        "--timeout", type=float, metavar="SECONDS", default=seconds, show_default=True, callback=check, help=help
    )


def search_options(command: C) -> C:
    """``--mode`` and ``--filter``, as the event that asks has them."""

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
