"""Keeps figures that are no numbers out of events, files and tables: JSON knows neither NaN nor infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures without those that are NaN or infinite."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def jsonable(value: Any) -> Any:
    """Returns a JSON value with None in place of each NaN and each infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return value
