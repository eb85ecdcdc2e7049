"""``up`` and ``down``: the embedded stack of a home folder, and its agents."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import click

from agents.cli.bars import share_bar
from agents.cli.context import CommandContext, pass_context
from agents.cli.output import note
from agents.cli.signals import Stopped, stoppable
from agents.cli.status import status
from agents.cli.workers import known_agents, run
from schemas.errors import Misuse, Unavailable

if TYPE_CHECKING:
    from infra.local.stack import Stack
    from infra.settings import Settings

__all__ = ["down", "run", "status", "up"]


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything is ready, and leave it running.")
@click.option(
    "--workers",
    metavar="AGENT=N,…",
    default="",
    help="How many processes of an agent to start, 1 each unless said: --workers answerer=2,recorder=0",
)
@pass_context
def up(context: CommandContext, /, detach: bool, workers: str) -> int:
    """Start the embedded stack and all agents; stop them with Ctrl-C, or with 'everlearn down'."""
    counts = parse_workers(workers)
    settings = _initialised(context)
    from infra.local.programs import workers_of
    from infra.local.stack import DidNotStart, Stack

    stack = Stack(settings, workers_of(counts))
    with stack.claim() as lock, stoppable():
        try:
            return _bring_up(stack, lock, detach)
        except Stopped:
            _stop(stack, lock)
            click.echo("stopped")
            return 0
        except DidNotStart as error:
            _stop(stack, lock)
            for line in error.last_lines:
                note(f"  {error.process}: {line}")
            raise
        except BaseException:
            _stop(stack, lock)
            raise


@click.command()
@pass_context
def down(context: CommandContext, /) -> None:
    """Stop what 'up' started in this home folder."""
    from infra.local.stack import Stack

    stack = Stack(context.settings, [])
    was_running = stack.supervisor.running
    stack.stop()
    click.echo("stopped" if was_running else f"nothing runs in {context.settings.home}")


def parse_workers(text: str) -> dict[str, int]:
    """``answerer=2`` as counts by agent; one of each agent that is not named. Raises Misuse."""
    counts = dict.fromkeys(known_agents(), 1)
    for part in filter(None, (each.strip() for each in text.split(","))):
        agent, _, number = part.partition("=")
        if agent not in counts:
            raise Misuse(f"there is no agent {agent!r}: choose from {', '.join(counts)}")
        if not number.isdecimal() or int(number) > 64:
            raise Misuse(f"--workers {part}: write a number from 0 to 64, such as {agent}=2")
        counts[agent] = int(number)
    return counts


def _initialised(context: CommandContext) -> Settings:
    from agents.cli.home_template import initialise

    settings = context.settings
    if settings.config is not None:
        return settings
    note(f"made {initialise(settings.home)}")
    del context.settings  # read again, with the tasks that are in the file now
    return context.settings


def _bring_up(stack: Stack, lock: IO[str], detach: bool) -> int:
    began = time.monotonic()
    stages = _stages(began)
    with share_bar() as show:
        stack.prepare(show)
    stages("downloads and conversions")
    stack.start(lock, stages)
    stack.await_agents(stages)
    if detach:
        stack.supervisor.release()
    click.echo(f"ready in {time.monotonic() - began:.1f} s")
    for name, place in stack.endpoints().items():
        click.echo(f"{name}: {place}")
    if detach:
        return 0
    click.echo("Ctrl-C stops everything.")
    if stack.supervisor.wait() != 0:
        raise Unavailable("the supervisor was killed, and its processes with it: start again with 'everlearn up'")
    click.echo("stopped by 'everlearn down'")
    return 0


def _stages(began: float) -> Callable[[str], None]:
    return lambda what: note(f"{time.monotonic() - began:5.1f} s  {what}")


def _stop(stack: Stack, lock: IO[str]) -> None:
    lock.close()
    stack.stop()
