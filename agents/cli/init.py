"""``everlearn init``: a home folder with a commented everlearn.toml, made from the settings so that it stays true."""

from __future__ import annotations

import json
import textwrap
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from agents.cli.context import CommandContext, pass_context
from schemas.errors import ConfigurationError, Misuse

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


@click.command()
@pass_context
def init(context: CommandContext, /) -> None:
    """Make a home folder with a commented everlearn.toml; one that exists is left alone."""
    if context.config is not None:
        raise Misuse("init writes everlearn.toml into the home folder: leave --config out, or give --home")
    path = initialise(context.settings.home)
    click.echo(f"made {path}: edit it, then 'everlearn up'")


WIDTH = 110
HEAD = """\
# Everlearn's configuration. Each setting below is commented out and shows its default: remove the # to change it.
# For a setting that is unset by default, add a line with its name and value.
# A setting may also come from the environment, as EVERLEARN_<TABLE>_<SETTING>, which wins over this file.
"""


TASKS_HEAD = """\
# Tasks: what the application asks of the model. Adapters, drift and feedback are kept for each.
# 'everlearn tasks add' adds one, 'everlearn tasks check' names every fault. A task's settings:
"""


TASKS = """\
[tasks.support]
instruction = \"\"\"
You answer questions of our users. Use only the sources below, be brief, and say so when they hold no answer.\"\"\"
retrieval = true
metric = "token_f1"

[tasks.routing]
instruction = "Say which team a message belongs to. Answer with one label and nothing else."
retrieval = false
metric = "exact_match"
labels = ["billing", "delivery", "returns", "account", "technical", "other"]
max_tokens = 16

# Settings of [monitor], [trainer], [validator] and [promoter] that differ for one task stand in a table below it:
#[tasks.routing.trainer]
#epochs = 5
"""


def initialise(home: Path) -> Path:
    """Makes the home folder and its ``everlearn.toml``; returns the file.

    Raises ConfigurationError when there is one already, or when the folder cannot be written.
    """
    from infra.private_files import create_folder, private_opener
    from infra.settings import CONFIG_NAME

    path = home / CONFIG_NAME
    try:
        create_folder(home)
        with open(path, "x", encoding="utf-8", opener=private_opener) as file:  # an [sql] url may hold a password
            file.write(render())
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: edit it, or choose another folder with --home") from None
    except OSError as error:
        raise ConfigurationError(f"{home} cannot be written ({error.strerror}): choose another --home") from error
    return path


def render() -> str:
    """The file's text: every table of the settings, commented out, and the tasks to begin with."""
    from infra.settings import TABLES
    from schemas.tasks import Task

    tables = [_table(name, table) for name, table in TABLES.items()]
    about_tasks = ((name, field.description) for name, field in Task.model_fields.items())
    lines = [_comment(f"  {name}: {text}") for name, text in about_tasks if text]
    return "\n".join([HEAD, *tables, TASKS_HEAD + "".join(lines), TASKS])


def _table(name: str, table: type[BaseModel]) -> str:
    from infra.settings import is_secret

    lines = [f"[{name}]\n"]
    for setting, field in table.model_fields.items():
        if field.description:
            lines.append(_comment(field.description))
        if is_secret(field):
            continue  # a secret has no place in a file
        default = _default(field)
        lines.append(f"# {setting}: unset by default\n" if default is None else f"#{setting} = {default}\n")
    return "".join(lines)


def _default(field: FieldInfo) -> str | None:
    """The default as TOML; None for a setting without one, which TOML cannot write."""
    value: Any = field.get_default(call_default_factory=True)
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case Enum():
            return f'"{value.value}"'
        case str() | PurePath():
            return f'"{value}"'
        case tuple():
            return json.dumps(list(value))
        case _:
            return repr(value)


def _comment(text: str) -> str:
    return textwrap.fill(text.replace("``", "'"), WIDTH, initial_indent="# ", subsequent_indent="# ") + "\n"
