"""Figures that are no numbers never reach JSON."""

from __future__ import annotations

import json
import math

from schemas.figures import finite, jsonable


def test_figures_that_are_no_numbers_are_left_out():
    assert finite({"a": 1, "b": math.nan, "c": math.inf, "d": -0.5}) == {"a": 1.0, "d": -0.5}


def test_a_json_value_keeps_its_shape_with_none_for_what_is_no_number():
    value = {"a": [1, math.nan, {"b": (-math.inf, "nan", None, True)}], "c": 2.5}
    assert jsonable(value) == {"a": [1, None, {"b": [None, "nan", None, True]}], "c": 2.5}
    json.dumps(jsonable(value), allow_nan=False)
