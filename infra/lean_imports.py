"""transformers' classes for causal models and tokenizers, without what would be loaded with them in vain."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def auto_classes() -> tuple[Any, Any]:
    """AutoModelForCausalLM and AutoTokenizer; to be asked for before anything else of transformers or PEFT is imported.

    A third of the time in which a model is loaded would be spent on parts that nothing here asks for: scikit-learn and
    pandas, for a kind of generation; SciPy, for the losses of object detection; torch's compiler.
    """
    with _absent("sklearn", "scipy"):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import is_scipy_available

        is_scipy_available()  # remembered: the losses are imported with the first model
    with contextlib.suppress(ImportError):
        _import_bitsandbytes()
    return AutoModelForCausalLM, AutoTokenizer


def _import_bitsandbytes() -> None:
    """PEFT imports it. It has its functions compiled where torch can do that, and uses them as they are elsewhere."""
    if "bitsandbytes" in sys.modules:
        return
    import torch

    compiler, torch.compile = torch.compile, _as_it_is
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiler


def _as_it_is(function: Any = None, **options: Any) -> Any:
    """In place of torch.compile, a decorator with and without options."""
    return function if function is not None else lambda given: given


@contextmanager
def _absent(*packages: str) -> Iterator[None]:
    """Within, packages that are not loaded yet seem not to be installed."""
    hidden: dict[str, Any] = {each: None for each in packages if each not in sys.modules}
    sys.modules.update(hidden)  # None: Python's own sign that a module is not to be found
    try:
        yield
    finally:
        for each in hidden:
            del sys.modules[each]
