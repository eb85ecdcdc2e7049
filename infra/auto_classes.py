"""transformers' classes for causal models and tokenizers, without what transformers would load in vain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def auto_classes() -> tuple[Any, Any]:
    """AutoModelForCausalLM and AutoTokenizer; to be asked for before anything else of transformers is imported.

    transformers looks for scikit-learn, and with it comes pandas, for a kind of generation that nothing here asks for:
    three of the twelve seconds in which a model is loaded.
    """
    with _absent("sklearn"):
        from transformers import AutoModelForCausalLM, AutoTokenizer
    return AutoModelForCausalLM, AutoTokenizer


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Within, a package that is not loaded yet seems not to be installed."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own sign that a module is not to be found
    try:
        yield
    finally:
        del sys.modules[package]
