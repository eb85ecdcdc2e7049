"""The command ``everlearn``: imports a subcommand when it is used, and prints every failure as one line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from agents.cli.context import CommandContext, place_options
from agents.cli.output import printable
from schemas.errors import EverlearnError, Misuse

PROGRAM = "everlearn"
INTERRUPTED = 130
MOST_LOGGED_BYTES = 1_000_000
"""The file of tracebacks begins anew when it is larger."""


@dataclass(frozen=True)
class CommandEntry:
    """The place of a command and its summary, so that listing the commands imports none of them."""

    target: str
    summary: str
    optional: bool = False


COMMANDS: dict[str, CommandEntry] = {
    "init": CommandEntry("agents.cli.init:init", "Make a home folder with a commented everlearn.toml."),
    "up": CommandEntry("agents.cli.stack:up", "Start the embedded stack and all agents."),
    "down": CommandEntry("agents.cli.stack:down", "Stop what 'up' started."),
    "status": CommandEntry("agents.cli.status:status", "Show the workers, their lag and the endpoints."),
    "storage": CommandEntry("agents.cli.storage:storage", "Show what takes how much, and what goes next."),
    "run": CommandEntry("agents.cli.stack:run", "Run agents against the configured stack."),
    "demo": CommandEntry("agents.demo.command:demo", "The whole loop, on sample data.", optional=True),
    "publish": CommandEntry("agents.cli.publish:publish", "Publish documents, examples or feedback."),
    "index": CommandEntry("agents.cli.index:index", "Show the search indexes, or rebuild one."),
    "search": CommandEntry("agents.cli.search:search", "Search the documents."),
    "ask": CommandEntry("agents.cli.ask:ask", "Ask questions and print the answers."),
    "feedback": CommandEntry("agents.cli.feedback:feedback", "Rate or correct an answer."),
    "interactions": CommandEntry("agents.cli.interactions:interactions", "List or show rows of the feature table."),
    "train": CommandEntry("agents.cli.train:train", "Ask for a training run."),
    "adapters": CommandEntry("agents.cli.adapters:adapters", "List or show adapters, back to what they learned from."),
    "datasets": CommandEntry(
        "agents.cli.datasets:datasets", "List or show what adapters are trained on and judged by."
    ),
    "promote": CommandEntry("agents.cli.release:promote", "Promote an adapter by hand, or try it on a share of users."),
    "rollback": CommandEntry("agents.cli.release:rollback", "Take back a canary, or return to the previous adapter."),
    "promoter": CommandEntry("agents.cli.promoter:promoter", "Simulate how often canaries are decided right."),
    "simulate": CommandEntry("agents.cli.simulate:simulate", "Show what the policies do, on simulated traffic."),
    "drift": CommandEntry("agents.cli.drift:drift", "Check for drift now, or list the reports."),
    "models": CommandEntry("agents.cli.models:models", "List, add or quantize base models."),
    "tasks": CommandEntry("agents.cli.tasks:tasks", "List, add or check the configured tasks."),
    "topics": CommandEntry("agents.cli.topics:topics", "Show the topic table."),
    "tail": CommandEntry("agents.cli.topics:tail", "Follow a topic, decoded."),
    "dlq": CommandEntry("agents.cli.dead_letters:dlq", "List, show, retry or drop dead letters."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported one at a time, each when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in COMMANDS.items() if not entry.optional or _exists(entry)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None or (entry.optional and not _exists(entry)):
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        _accept_place(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


def _exists(entry: CommandEntry) -> bool:
    module = entry.target.partition(":")[0]
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _accept_place(command: click.Command) -> None:
    """Accepts --home and --config after the command as well, because people write them there."""
    if not any(parameter.name == "home" for parameter in command.params):
        command.params.extend(place_options(hidden=True))
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _accept_place(each)


@click.group(
    cls=LazyGroup,
    params=place_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="--home and --config may also stand after the command.",
)
@click.option("--debug", is_flag=True, envvar="EVERLEARN_DEBUG", hidden=True, help="Show tracebacks.")
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Everlearn keeps an LLM application learning.

    Publish documents, ask questions, give feedback; agents on Kafka topics do the rest.
    """
    ctx.ensure_object(CommandContext).debug = debug


def run() -> None:
    """Runs the command line of this process and ends it."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 2 for misuse, 1 for other failures, which are one line on stderr."""
    context = CommandContext()
    try:
        code = cli.main(list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except Misuse as error:
        return _fail(error, 2)
    except EverlearnError as error:
        return _fail(_with_cause(error, context), 1)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # an incomplete command prints its help
        return error.exit_code
    except click.UsageError as error:
        return _fail(_with_hint(error), error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as stop:  # raised by click when the reader of the output has gone
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        # Python flushes stdout again when it ends, which would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort, so that nobody has to read a traceback
        if context.debug:
            traceback.print_exc()
            return 1
        return _fail(
            f"{type(error).__name__}: {error}: this is a fault in Everlearn; please report it with {_keep(context)}", 1
        )


def _fail(message: object, code: int) -> int:
    line = printable(" ".join(str(message).split()))  # it may quote what others wrote
    click.echo(f"error: {line}", err=True)
    return code


def _with_cause(error: EverlearnError, context: CommandContext) -> str:
    """The error, and the full disk of the home that is probably its cause."""
    try:
        from infra.disks import scarce_disks

        full = [str(disk) for disk in scarce_disks(context.settings) if disk.full]
    except (EverlearnError, OSError):
        full = []
    return "; ".join([str(error), *(each for each in full if each not in str(error))])


def _with_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else PROGRAM
    return f"{error.format_message().rstrip('.')}: see '{path} --help'"


def _keep(context: CommandContext) -> Path:
    """Writes the traceback to the home's run folder, or to a temporary file, and returns the file."""
    text = f"{datetime.now(UTC).isoformat()} {' '.join(sys.argv)}\n{traceback.format_exc()}\n"
    try:
        path = context.settings.run_folder / "errors.log"
        full = path.is_file() and path.stat().st_size > MOST_LOGGED_BYTES
        with path.open("w" if full else "a", encoding="utf-8") as file:
            file.write(text)
    except (OSError, EverlearnError):
        with tempfile.NamedTemporaryFile("w", prefix="everlearn-", suffix=".log", delete=False) as other:
            other.write(text)
        return Path(other.name)
    return path
