"""The command line itself: quick to answer, and every failure one line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from agents.cli import main as cli
from agents.cli.context import CommandContext, pass_context
from schemas.errors import Misuse, Unavailable

PYTHON = [sys.executable, "-m", "agents"]


def command_that(action) -> click.Command:
    @click.command("odd")
    @pass_context
    def odd(context: CommandContext) -> None:
        action(context)

    return odd


@pytest.fixture
def odd():
    """Registers a command for the length of a test, the way a later issue would."""
    module = sys.modules[__name__]

    def register(action) -> None:
        module.__dict__["odd_command"] = command_that(action)
        cli.COMMANDS["odd"] = cli.CommandEntry(f"{__name__}:odd_command", "Odd.")

    yield register
    cli.COMMANDS.pop("odd", None)


def fail_with(error: BaseException):
    def action(_context: CommandContext) -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Unavailable("Kafka at h:1 does not answer:\n start it"), 1, "error: Kafka at h:1 does not answer: start it\n"),
        (Misuse("no such task"), 2, "error: no such task\n"),
        (Misuse("no such \x1b[2Jtask"), 2, "error: no such \ufffd[2Jtask\n"),
        (click.UsageError("wrong."), 2, "error: wrong: see 'everlearn odd --help'\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_a_failure_is_one_line_and_its_code(odd, capsys, error, code, line):
    odd(fail_with(error))
    assert cli.execute(["odd"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == line


def test_a_fault_of_ours_leaves_its_traceback_in_a_file_of_the_home(odd, capsys, tmp_path: Path):
    (tmp_path / "run").mkdir()
    odd(fail_with(ZeroDivisionError("oops")))
    assert cli.execute(["--home", str(tmp_path), "odd"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ZeroDivisionError: oops: this is a fault in Everlearn")
    assert error.count("\n") == 1
    assert str(tmp_path / "run" / "errors.log") in error
    assert "Traceback" in (tmp_path / "run" / "errors.log").read_text()


def test_a_home_that_is_not_there_is_not_made_for_a_traceback(odd, capsys, tmp_path: Path):
    odd(fail_with(ZeroDivisionError("oops")))
    assert cli.execute(["odd", "--home", str(tmp_path / "none")]) == 1
    kept = Path(capsys.readouterr().err.split()[-1])
    assert "Traceback" in kept.read_text()
    kept.unlink()
    assert not (tmp_path / "none").exists()


def test_a_traceback_is_shown_to_whoever_asks(odd, capsys):
    odd(fail_with(ZeroDivisionError("oops")))
    assert cli.execute(["--debug", "odd"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_home_may_stand_before_and_after_the_command(odd, tmp_path: Path, place: str):
    seen = []
    odd(lambda context: seen.append(context.settings.home))
    option = ["--home", str(tmp_path)]
    assert cli.execute([*option, "odd"] if place == "before" else ["odd", *option]) == 0
    assert seen == [tmp_path]


def test_a_configuration_that_is_not_there_is_one_line(odd, tmp_path: Path, capsys):
    odd(lambda context: context.settings)
    assert cli.execute(["--config", str(tmp_path / "no.toml"), "odd"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no configuration file")


@pytest.mark.parametrize("arguments", [["nope"], ["--nope"], ["tasks", "nope"], ["publish", "documents"]])
def test_misuse_ends_with_two(arguments: list[str], capsys):
    assert cli.execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["tasks"], ["publish"]])
def test_half_a_command_shows_the_other_half(arguments: list[str], capsys):
    assert cli.execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: everlearn")


def test_help_is_quick_and_lists_every_command(tmp_path: Path):
    started = time.monotonic()
    result = subprocess.run([*PYTHON, "--help"], capture_output=True, text=True, cwd=Path.cwd(), check=True)
    took = time.monotonic() - started
    for name in ("publish", "search", "ask", "feedback", "interactions", "tasks", "topics", "tail", "dlq"):
        assert f"  {name} " in result.stdout
    assert took < 2.0, "0.15 s on an idle machine; the bound leaves room for a busy one"


def test_help_imports_neither_models_nor_clients():
    code = (
        "import sys; from agents.cli.main import execute; execute(['--help']);"
        "heavy = {'torch', 'pymilvus', 'kafka', 'sqlalchemy', 'pydantic', 'faust'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_reader_that_goes_away_is_no_failure_worth_words(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        result = subprocess.run(
            [*PYTHON, "topics", "--json"],
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
            env=os.environ | {"EVERLEARN_HOME": str(tmp_path)},
        )
    assert b"Traceback" not in result.stderr
    assert b"BrokenPipe" not in result.stderr


def test_the_version_is_told(capsys):
    assert cli.execute(["--version"]) == 0
    assert capsys.readouterr().out.startswith("everlearn, version ")
