"""Options that every command takes: the home folder, the configuration, and the form of the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from infra.settings import Settings

C = TypeVar("C", bound=Callable[..., object])
"""A command, which a decorator gives an option."""
T = TypeVar("T")


@dataclass
class CommandContext:
    """The options that stand before or after any command. ``settings`` are read when a command first uses them."""

    home: Path | None = None
    config: Path | None = None
    json: bool = False
    debug: bool = False

    @cached_property
    def settings(self) -> Settings:
        """Raises ConfigurationError that names every fault."""
        from infra.settings import load  # here, so that --help does not pay for pydantic

        return load(self.home, self.config)


pass_context = click.make_pass_decorator(CommandContext, ensure=True)


def _store(name: str) -> Callable[[click.Context, click.Parameter, T], T]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: T) -> T:
        if value:
            setattr(ctx.ensure_object(CommandContext), name, value)
        return value

    return callback


def json_option(command: C) -> C:
    """Adds ``--json``: JSON lines on stdout, and nothing else there. It sets ``context.json``."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_store("json"),
        help="Print JSON lines on stdout, and nothing else there.",
    )(command)


def place_options(*, hidden: bool) -> list[click.Option]:
    """``--home`` and ``--config``, which every command takes before or after its name."""
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            callback=_store("home"),
            help="The home folder.  [default: EVERLEARN_HOME, or .everlearn]",
        ),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            callback=_store("config"),
            help="The configuration.  [default: EVERLEARN_CONFIG, or everlearn.toml in the home folder]",
        ),
    ]
