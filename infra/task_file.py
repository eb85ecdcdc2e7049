"""The task tables of ``everlearn.toml`` as somebody wrote them, for naming faults and for adding one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError, Misuse


def raw_tasks(path: Path) -> dict[str, Any]:
    """The tables under ``[tasks]``, unchecked. Raises ConfigurationError."""
    tasks = _parse(_read(path), path).get("tasks", {})
    if not isinstance(tasks, dict):
        raise ConfigurationError(f"{path}: tasks must be tables: write [tasks.NAME]")
    return tasks


def append_task(path: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Adds ``[tasks.NAME]`` at the end of the file; everything before it stays as it is, comments too.

    Raises Misuse when the name is taken, ConfigurationError when the file cannot be read, written or extended.
    """
    text = _read(path)
    tasks = _parse(text, path).get("tasks", {})
    if name in tasks:
        raise Misuse(f"the task {name!r} is in {path} already: change it there, or choose another name")
    table = "".join(f"{setting} = {toml_value(value)}\n" for setting, value in settings.items())
    addition = f"{'' if not text or text.endswith(chr(10)) else chr(10)}\n[tasks.{_key(name)}]\n{table}"
    try:
        added = tomllib.loads(text + addition)["tasks"][name]
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{path} cannot be extended ({error}): write its tasks as [tasks.NAME] tables"
        ) from None
    if added != dict(settings):
        raise ConfigurationError(f"{path} cannot be extended: write its tasks as [tasks.NAME] tables")
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(addition)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}; give --config another file") from None


def toml_value(value: str | int | float | bool | list[str]) -> str:
    """A value in TOML. JSON's strings are basic strings of TOML, except that DEL must be escaped too."""
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else toml_value(name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"there is no {path}: run 'everlearn init' first") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it as UTF-8") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
