"""``up`` and ``down``: the embedded stack of a home folder, and its agents."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from agents.commands.context import Context, pass_context
from agents.commands.output import note, progress
from agents.commands.status import status
from agents.commands.workers import known_agents, run
from agents.errors import EverlearnError, Misuse, Unavailable

if TYPE_CHECKING:
    from infra.local.stack import Stack
    from infra.settings import Settings

__all__ = ["down", "run", "status", "up"]

LAST_LINES = 10


class Stopped(BaseException):
    """Somebody wants the stack to end: SIGINT, SIGTERM, or the terminal was closed."""


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything is ready, and leave it running.")
@click.option(
    "--workers",
    metavar="AGENT=N,…",
    default="",
    help="How many processes of an agent to start, 1 each unless said: --workers answerer=2,recorder=0",
)
@pass_context
def up(context: Context, /, detach: bool, workers: str) -> int:
    """Start the embedded stack and all agents; stop them with Ctrl-C, or with 'everlearn down'."""
    counts = parse_workers(workers)
    settings = _initialised(context)
    from infra.local.stack import Stack, workers_of

    stack = Stack(settings, workers_of(counts))
    began = time.monotonic()
    with stack.claim() as lock, _stoppable():
        try:
            _prepare(stack)
            stack.start(lock, _stages(began))
            # supervisord holds it from here on; were it held here too, it would seem alive when it was killed
            lock.close()
            stack.await_agents(_stages(began))
            if detach:
                stack.supervisor.release()
            click.echo(f"ready in {time.monotonic() - began:.1f} s")
            _show_endpoints(settings)
            if detach:
                return 0
            click.echo("Ctrl-C stops everything.")
            return _watch(stack)
        except (Stopped, EverlearnError, Exception) as reason:
            return _end(stack, reason)


@click.command()
@pass_context
def down(context: Context, /) -> None:
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


def _initialised(context: Context) -> Settings:
    from infra.home_template import initialise

    settings = context.settings
    if settings.config is not None:
        return settings
    note(f"made {initialise(settings.home)}")
    del context.settings  # read again, with the tasks that are in the file now
    return context.settings


def _prepare(stack: Stack) -> None:
    with progress("", 1000) as advance:
        done = 0

        def show(share: float, text: str) -> None:
            nonlocal done
            now = int(share * 1000)
            advance(now - done, text)
            done = now

        stack.prepare(show)


def _stages(began: float) -> Callable[[str], None]:
    return lambda what: note(f"{time.monotonic() - began:5.1f} s  {what}")


def _show_endpoints(settings: Settings) -> None:
    from infra.local.stack import read_endpoints

    for name, place in read_endpoints(settings).items():
        click.echo(f"{name}: {place}")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turns the signals that mean 'end' into an exception, so that everything that was started is stopped."""

    def raise_stopped(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, raise_stopped) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(stack: Stack) -> int:
    if stack.supervisor.wait() != 0:
        raise Unavailable("the supervisor was killed, and its processes with it: start again with 'everlearn up'")
    click.echo("stopped by 'everlearn down'")
    return 0


def _end(stack: Stack, reason: BaseException) -> int:
    """Stops everything, whatever the reason; shows the end of the log that tells it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # stopping is bounded in time, so it need not be interrupted
    culprit = getattr(reason, "process", None)
    lines = stack.supervisor.last_lines(culprit, LAST_LINES) if culprit else []
    stack.stop()
    for line in lines:
        note(f"  {culprit}: {line}")
    if isinstance(reason, Stopped):
        click.echo("stopped")
        return 0
    raise reason
