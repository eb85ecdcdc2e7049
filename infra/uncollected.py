"""Loads big libraries without looking for garbage among what they are made of, which stays: a tenth of their time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within, no garbage is looked for; what is there by then counts as old, which is looked through last."""
    enabled, is_forked = gc.isenabled(), gc.get_freeze_count() > 0
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if not is_forked:  # what a fork shares with others stays frozen, for whoever looks through it copies it
            gc.unfreeze()
        if enabled:
            gc.enable()
