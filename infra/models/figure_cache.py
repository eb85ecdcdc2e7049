"""Figures that take long to work out, kept as long as what they were worked out from is the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from infra.durable_files import write
from schemas.errors import Unavailable


def remembered(file: Path, source: str, work_out: Callable[[], float]) -> float:
    """The figure in the file, if it was worked out from the same source; else anew. ``source``: all it depends on."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["source"] == source:
            return float(known["figure"])
    figure = work_out()
    with contextlib.suppress(Unavailable, OSError):  # it takes as long the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, [json.dumps({"source": source, "figure": figure}).encode()])
    return figure
