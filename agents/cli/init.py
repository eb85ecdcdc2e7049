"""``everlearn init``: a home folder with a commented everlearn.toml, made from the settings so that it stays true."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from enum import Enum
from pathlib import Path, PurePath
from types import ModuleType
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
"""


def initialise(home: Path) -> Path:
    """Makes the home folder and its ``everlearn.toml``; returns the file.

    Raises ConfigurationError when there is one already, or when the folder cannot be written.
    """
    from infra.settings import CONFIG_NAME

    path = home / CONFIG_NAME
    try:
        home.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(render())
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: edit it, or choose another folder with --home") from None
    except OSError as error:
        raise ConfigurationError(f"{home} cannot be written ({error.strerror}): choose another --home") from error
    return path


def render() -> str:
    """The file's text: every table of the settings, commented out, and the tasks to begin with."""
    from infra import document_settings, policies, settings
    from schemas import tasks

    documented = {**attribute_docs(settings), **attribute_docs(document_settings), **attribute_docs(policies)}
    parts = [HEAD]
    for name, field in settings.Settings.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, policies.Table):
            parts.append(_table(name, table, documented.get(table.__name__, {})))
    about_tasks = attribute_docs(tasks)["Task"]
    lines = [_comment(f"  {name}: {text}") for name, text in about_tasks.items() if text]
    return "\n".join([*parts, TASKS_HEAD + "".join(lines), TASKS])


def attribute_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """The strings that stand below the attributes of a module's classes: class name, attribute name, text."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        docs = found.setdefault(node.name, {})
        for statement, after in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                docs[statement.target.id] = " ".join(str(after.value.value).split()) if is_text else ""  # type: ignore[attr-defined]
    return found


def _table(name: str, table: type[BaseModel], docs: dict[str, str]) -> str:
    lines = [f"[{name}]\n"]
    for setting, field in table.model_fields.items():
        text = docs.get(setting, "")
        if text:
            lines.append(_comment(text))
        if "SecretStr" in str(field.annotation):
            continue  # a secret has no place in a file
        lines.append(f"#{setting} = {_default(field)}\n")
    return "".join(lines)


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    match value:
        case None:
            return "   (unset)"
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
