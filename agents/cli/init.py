"""``init``: a home folder with a commented everlearn.toml."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, pass_context
from schemas.errors import Misuse


@click.command()
@pass_context
def init(context: CommandContext, /) -> None:
    """Make a home folder with a commented everlearn.toml; one that exists is left alone."""
    from agents.cli.home_template import initialise

    if context.config is not None:
        raise Misuse("init writes everlearn.toml into the home folder: leave --config out, or give --home")
    path = initialise(context.settings.home)
    click.echo(f"made {path}: edit it, then 'everlearn up'")
