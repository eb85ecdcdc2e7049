"""Modules that a test file needs and that take seconds to load.

A test process reads all files before its first test and runs the tests of some: it loads no more than these need.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class lazily:  # noqa: N801 - reads like an import
    """Stands for a module, which is imported when something of it is first used."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "_mock")) or "pytest" in name:  # pytest looks at all that a test file holds
            raise AttributeError(name)
        return getattr(import_module(self._module), name)
