"""The package transformers, without what would be loaded with it in vain; import it from here, and not itself.

A third of the time in which a model and an adapter are loaded would be spent on parts that nothing here asks for:
scikit-learn and pandas, for a kind of generation; SciPy, for the losses of object detection; torch's compiler.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from infra.uncollected import uncollected

__all__ = ["transformers"]


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


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Within, functions that ask to be compiled stay as they are, as they do where torch has no compiler."""
    compiler = torch.compile
    torch.compile = lambda function=None, **options: function or (lambda given: given)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiler


with uncollected(), _absent("sklearn", "scipy"):
    import transformers
    import transformers.modeling_layers  # with the losses
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401  # it loads what is asked for

with uncollected(), _uncompiled(), contextlib.suppress(ImportError):
    import bitsandbytes  # noqa: F401  # PEFT imports it
