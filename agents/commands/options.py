"""Options that several commands take in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
