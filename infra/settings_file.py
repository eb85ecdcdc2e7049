"""Reads ``everlearn.toml`` as it was written, for naming its faults, and adds a task to it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError, Misuse


def read_tables(path: Path) -> dict[str, Any]:
    """Gives all tables of the file, unchecked. Raises ConfigurationError."""
    tables = _parse(_read(path), path)
    if not isinstance(tables.get("tasks", {}), dict):
        raise ConfigurationError(f"{path}: tasks must be tables: write [tasks.NAME]")
    return tables


def append_task(path: Path, name: str, settings: Mapping[str, str | int | float | bool | list[str]]) -> None:
    """Adds ``[tasks.NAME]`` at the end of the file; everything before it stays as it is, comments too.

    Raises Misuse when the name is taken, ConfigurationError when the file cannot be read, written or extended.
    """
    import tomlkit

    text = _read(path)
    if name in _parse(text, path).get("tasks", {}):
        raise Misuse(f"the task {name!r} is in {path} already: change it there, or choose another name")
    # tomlkit writes the new table alone. Added to the whole document, the table would follow the last task, and so
    # stand between the next table and that table's comment.
    addition = tomlkit.dumps({"tasks": {name: settings}})
    extended = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}\n{addition}"
    try:
        added = tomllib.loads(extended)["tasks"][name]
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{path} cannot be extended ({error}): write its tasks as [tasks.NAME] tables"
        ) from None
    if added != dict(settings):
        raise ConfigurationError(f"{path} cannot be extended: write its tasks as [tasks.NAME] tables")
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(extended[len(text) :])
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}; give --config another file") from None


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
