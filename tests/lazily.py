"""Imports a module on first use, for test files that need a module as large as torch.

Each test process imports all test files but runs only some of their tests. With plain imports, every process would load
torch and transformers, which takes several seconds and about 1 GB of memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class lazily:  # noqa: N801 - reads like an import
    """Stands for a module, and imports it when one of its names is first used."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "_mock")) or "pytest" in name:  # pytest inspects every name in a test file
            raise AttributeError(name)
        return getattr(import_module(self._module), name)
