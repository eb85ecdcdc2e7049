"""``run``: agents as long-running workers against the configured stack, here or on any number of machines."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.context import CommandContext, pass_context
from agents.cli.output import note
from schemas.errors import ConfigurationError, Misuse, Unavailable

if TYPE_CHECKING:
    from infra.settings import Settings


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
        return os.EX_CONFIG  # tells 'everlearn up' not to try it again


def _set_up(settings: Settings) -> None:
    from infra.kafka import KafkaClientConfig, create_topics
    from infra.local.stack import prepare_registry
    from infra.sql.migrate import migrate

    create_topics(KafkaClientConfig.from_settings(settings))
    migrate(settings.sql_url())
    prepare_registry(settings)


def _run_several(settings: Settings, agents: Sequence[str]) -> int:
    from agents.cli.signals import Stopped, stoppable
    from infra.local.locks import try_lock
    from infra.local.programs import PRELOADED, WorkerProcess, agent_program
    from infra.local.stack import stop_seconds
    from infra.local.supervisor import Supervisor

    # A folder of this process's own: several may run beside 'up' in one home.
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
    """The logs outlive the run; the rest of its folder does not."""
    kept = folder.parent / "logs" / folder.name
    kept.parent.mkdir(exist_ok=True)
    (folder / "logs").rename(kept)
    shutil.rmtree(folder, ignore_errors=True)
