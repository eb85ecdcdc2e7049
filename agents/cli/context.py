"""What every command shares: where the home is, and whether a person or a program reads the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from infra.settings import Settings

C = TypeVar("C", bound=Callable[..., Any])


@dataclass
class CommandContext:
    """The options that stand before or after any command; settings are read when a command first asks for them."""

    home: Path | None = None
    config: Path | None = None
    json: bool = False
    debug: bool = False

    @cached_property
    def settings(self) -> Settings:
        """Raises ConfigurationError with every fault named."""
        from infra.settings import load  # here, so that --help does not pay for pydantic

        return load(self.home, self.config)


pass_context = click.make_pass_decorator(CommandContext, ensure=True)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value:
            setattr(ctx.ensure_object(CommandContext), name, value)
        return value

    return callback


def json_option(command: C) -> C:
    """Gives a command ``--json``: JSON lines on stdout and nothing else there; ``context.json`` tells."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember("json"),
        help="Print JSON lines on stdout, and nothing else there.",
    )(command)


def place_options(*, hidden: bool) -> list[click.Option]:
    """``--home`` and ``--config``, which every command takes, whether they stand before or after its name."""
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            callback=_remember("home"),
            help="The home folder.  [default: EVERLEARN_HOME, or .everlearn]",
        ),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            callback=_remember("config"),
            help="The configuration.  [default: EVERLEARN_CONFIG, or everlearn.toml in the home folder]",
        ),
    ]
