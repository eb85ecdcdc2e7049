"""``everlearn up``, ``down`` and ``run``: the embedded stack of a home folder, and agents as long-running workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

import click

from agents.cli.context import CommandContext, pass_context
from agents.cli.output import note, share_bar
from schemas.errors import ConfigurationError, Misuse, Unavailable

if TYPE_CHECKING:
    from infra.local.stack import Stack
    from infra.settings import Settings

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """The process is to end: Ctrl-C, SIGTERM, or a closed terminal."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raises Stopped in the block on the first such signal. Later signals are ignored, because stopping takes a
    bounded time.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def known_agents() -> tuple[str, ...]:
    """The agents that exist, in the order in which they are started."""
    from agents.wiring.run import AGENTS

    return AGENTS


@click.command()
@click.argument("agents", metavar="AGENT…", nargs=-1, required=True)
@click.option(
    "--worker",
    metavar="NAME",
    help="The worker's own name, for a single AGENT; a worker that comes back under it takes over at once.",
)
@click.option("--no-setup", is_flag=True, hidden=True, help="The topics and the SQL schema are known to be there.")
@pass_context
def run(context: CommandContext, /, agents: tuple[str, ...], worker: str | None, no_setup: bool) -> int:
    """Run agents until SIGTERM or Ctrl-C, a process each; naming one twice starts two.

    Agents: indexer, loader, answerer, recorder, monitor, trainer, validator, promoter, quantizer.
    """
    unknown = [agent for agent in agents if agent not in known_agents()]
    if unknown:
        raise Misuse(f"there is no agent {unknown[0]!r}: choose from {', '.join(known_agents())}")
    if worker is not None and len(agents) > 1:
        raise Misuse("--worker names a single worker: give one AGENT, or leave it out")
    if not no_setup:
        _set_up(context.settings)
    if len(agents) > 1:
        return _run_several(context.settings, agents)
    from agents.wiring.run import run_agent

    try:
        return run_agent(agents[0], context.settings, worker=worker)
    except ConfigurationError as error:
        if not no_setup:
            raise
        note(f"error: {error}")
        return os.EX_CONFIG  # tells 'everlearn up' not to restart it


def _set_up(settings: Settings) -> None:
    from infra.kafka import create_topics, kafka_connection
    from infra.local.stack import prepare_registry
    from infra.sql.migrate import migrate

    create_topics(kafka_connection(settings))
    migrate(settings.sql_url())
    prepare_registry(settings)


def _run_several(settings: Settings, agents: Sequence[str]) -> int:

    from infra.local.locks import try_lock
    from infra.local.programs import PRELOADED, WorkerProcess, agent_program
    from infra.local.stack import stop_seconds
    from infra.local.supervisor import Supervisor

    # Each process has its own folder, because several may run in one home beside 'up'.
    folder = settings.run_folder / f"workers-{os.getpid()}"
    programs = [
        agent_program(
            settings, WorkerProcess(agent=agent, name=f"{agent}-{socket.gethostname()}-{os.getpid()}-{number}")
        )
        for number, agent in enumerate(agents, 1)
    ]
    supervisor = Supervisor(folder)
    lock = try_lock(folder / "lock")
    if lock is None:
        raise Unavailable(f"{folder} is in use: end the process that uses it")
    with stoppable():
        try:
            supervisor.launch(programs, lock)
            supervisor.preload(PRELOADED)
            for program in programs:
                supervisor.start(program)
                note(f"started {program.name}, which logs to {supervisor.log(program.name)}")
            if supervisor.wait() != 0:
                raise Unavailable("the supervisor was killed, and its workers with it: run them again")
        except Stopped:
            note("stopped")
        finally:
            lock.close()
            supervisor.stop(stop_seconds(settings))
            _keep_logs(folder)
    return 0


def _keep_logs(folder: Path) -> None:
    """Keeps the logs of the run, and deletes the rest of its folder."""
    kept = folder.parent / "logs" / folder.name
    kept.parent.mkdir(exist_ok=True)
    (folder / "logs").rename(kept)
    shutil.rmtree(folder, ignore_errors=True)


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything is ready, and leave it running.")
@click.option(
    "--workers",
    metavar="AGENT=N,…",
    default="",
    help="How many processes of an agent to start (default 1): --workers answerer=2,recorder=0",
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

    settings = _settings_to_stop_by(context)
    stack = Stack(settings, [])
    was_running = stack.supervisor.running
    stack.stop()
    if was_running and stack.supervisor.running:
        raise Unavailable(f"a stack is being started in {settings.home}: try again when 'everlearn status' shows it")
    click.echo("stopped" if was_running else f"nothing runs in {settings.home}")


def parse_workers(text: str) -> dict[str, int]:
    """Reads ``answerer=2`` as counts by agent. An agent that is not named gets one. Raises Misuse."""
    counts = dict.fromkeys(known_agents(), 1)
    for part in filter(None, (each.strip() for each in text.split(","))):
        agent, _, number = part.partition("=")
        if agent not in counts:
            raise Misuse(f"there is no agent {agent!r}: choose from {', '.join(counts)}")
        if not number.isdecimal() or int(number) > 64:
            raise Misuse(f"--workers {part}: write a number from 0 to 64, such as {agent}=2")
        counts[agent] = int(number)
    return counts


def _settings_to_stop_by(context: CommandContext) -> Settings:
    """The settings, or the defaults of the home folder if its configuration is wrong: a stack must always stop."""
    from infra.settings import Settings, locate

    try:
        return context.settings
    except ConfigurationError as error:
        home, _ = locate(context.home)
        if not home.is_dir():
            raise
        note(f"warning: {error}")
        return Settings(home=home)


def _initialised(context: CommandContext) -> Settings:
    from agents.cli.init import initialise

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
    places = [f"{name}: {place}" for name, place in stack.endpoints().items()]
    ready = "\n".join([f"ready in {time.monotonic() - began:.1f} s", *places])
    if detach:
        stack.supervisor.release()
        with contextlib.suppress(BrokenPipeError):  # the reader has gone, and the stack must stay
            click.echo(ready)
        return 0
    click.echo(ready)
    click.echo("Ctrl-C stops everything.")
    if stack.supervisor.wait(tell_of_disks(stack.settings)) != 0:
        raise Unavailable("the supervisor was killed, and its processes with it: start again with 'everlearn up'")
    click.echo("stopped by 'everlearn down'")
    return 0


def tell_of_disks(settings: Settings) -> Callable[[], None]:
    """Says once when a disk of the home becomes full, and once when there is room again."""
    from infra.disks import scarce_disks

    told: dict[Path, str] = {}

    def look() -> None:
        full = {disk.place: str(disk) for disk in scarce_disks(settings) if disk.full}
        for place in full.keys() - told.keys():
            note(f"warning: {full[place]}")
        for place in told.keys() - full.keys():
            note(f"there is room on the disk of {place} again")
        told.clear()
        told.update(full)

    return look


def _stages(began: float) -> Callable[[str], None]:
    return lambda what: note(f"{time.monotonic() - began:5.1f} s  {what}")


def _stop(stack: Stack, lock: IO[str]) -> None:
    lock.close()
    stack.stop()
