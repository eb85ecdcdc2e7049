"""Runs our tests as Evidently's own, reads from its result which columns drifted, and has it describe other columns.

Evidently takes five seconds to import, so this runs in a child process.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infra.reports.evidently_charts import packed
from infra.reports.pages import shown
from schemas.drift import CheckedColumn, ColumnResult, DescribedColumns, Detection
from schemas.event import JsonObject

if TYPE_CHECKING:
    from evidently.core.report import Snapshot
    from evidently.legacy.calculations.stattests import StatTest
    from pandas import DataFrame, Series

_LOOKALIKES = {ord("<"): "‹", ord(">"): "›", ord("&"): "＆"}
"""Evidently's charts take some texts for markup of their own (Plotly's ``<b>`` and ``<a href>``)."""


class EvidentlyDetector:
    """Satisfies the monitor's Detector."""

    def detect(self, columns: Sequence[CheckedColumn], described: DescribedColumns) -> Detection:
        """Tests the columns, and describes the others.

        If Evidently fails, the tests run without it: the results are the same, and ``problem`` says what happened.
        """
        os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
        count = described.reference_rows
        full = [column for column in columns if all(column.counted(count))]
        problems: list[str] = []
        results: dict[str, ColumnResult] = {}
        found: JsonObject | None = None
        pages: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its libraries warn about columns with few values
            try:
                snapshot = _test(full, count)
                found = _finite(json.loads(snapshot.json()))
                results = _results(found, full)
                pages.append(snapshot.get_html_str(as_iframe=False))
            except Exception as error:  # noqa: BLE001  # whatever Evidently raises, there is a verdict
                found, results = None, {}
                problems.append(f"the tests ran without Evidently, which failed: {type(error).__name__}: {error}")
            try:
                pages.append(_describe(described).get_html_str(as_iframe=False))
            except Exception as error:  # noqa: BLE001  # nothing is concluded from the description
                problems.append(f"Evidently's description failed: {type(error).__name__}: {error}")
            charts: str | None = None
            try:
                charts = packed(pages) if pages else None
            except ValueError as error:
                problems.append(str(error))
        # Evidently takes no empty columns: there is nothing to compare, and the test says so.
        results = {column.kind: results.get(column.kind) or column.result(count) for column in columns}
        return Detection(results=results, found=found, charts=charts, problem="; ".join(problems) or None)


def _test(columns: Sequence[CheckedColumn], reference_rows: int) -> Snapshot:
    """Runs the columns' tests as Evidently's. A row's number is its index, by which a test knows it."""
    from evidently.presets import DataDriftPreset
    from pandas import DataFrame

    numbers = [column.kind for column in columns if _is_measured(column)]
    names = [column.kind for column in columns if not _is_measured(column)]
    frame = DataFrame({column.kind: _values(column) for column in columns})
    tests = {column.kind: _as_stat_test(column) for column in columns}
    preset = DataDriftPreset(
        columns=[column.kind for column in columns],
        per_column_method=tests,
        per_column_threshold={column.kind: column.threshold for column in columns},
        drift_share=int(1000 / len(columns)) / 1000,  # there is drift as soon as one column drifts
    )
    return _run(preset, frame, reference_rows, numbers, names, include_tests=True)


def _as_stat_test(column: CheckedColumn) -> StatTest:
    """Registers a column's test with Evidently, in place of the one that the last check registered for this kind."""
    from evidently.legacy.calculation_engine.python_engine import PythonEngine
    from evidently.legacy.calculations.stattests.registry import (
        StatTest,
        add_stattest_impl,
        create_impl_wrapper,
        register_stattest,
    )
    from evidently.legacy.core import ColumnType

    def test(reference: Series[Any], current: Series[Any], kind: ColumnType, threshold: float) -> tuple[float, bool]:
        score = column.test(reference.index.tolist(), current.index.tolist())
        return score, score <= threshold

    made = StatTest(
        name=f"everlearn_{column.kind}",
        display_name=column.method,
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
        default_threshold=column.threshold,
    )
    register_stattest(made)
    # Given to register_stattest, the function and all rows of the check would stay in memory for good.
    add_stattest_impl(made, PythonEngine, create_impl_wrapper(test))
    return made


def _results(found: JsonObject, columns: Sequence[CheckedColumn]) -> dict[str, ColumnResult]:
    """Reads Evidently's result: each column's score, its threshold, and whether Evidently's test of it failed.

    Raises ValueError if it says other than that there is drift as soon as one column drifts.
    """
    status = {each["metric_config"]["metric_id"]: each["status"] for each in found["tests"]}
    results, drifted = {}, 0
    for metric in found["metrics"]:
        config = metric["config"]
        if config["type"].endswith(":ValueDrift"):
            results[config["column"]] = ColumnResult(
                score=metric["value"], threshold=config["threshold"], drifted=status[metric["id"]] == "FAIL"
            )
        elif config["type"].endswith(":DriftedColumnsCount"):
            drifted = metric["value"]["count"]
    if set(results) != {column.kind for column in columns} or drifted != sum(each.drifted for each in results.values()):
        raise ValueError(f"its result is not understood: {drifted:g} drifted columns, {results}")
    return results


def _describe(described: DescribedColumns) -> Snapshot:
    """Summarizes columns. The summary compares their figures, and draws no conclusion."""
    from evidently.presets import DataSummaryPreset
    from pandas import DataFrame

    measured = {_harmless(name): values for name, values in described.measured.items() if _varies(values)}
    named = {_harmless(name): _harmless_all(values) for name, values in described.named.items() if _varies(values)}
    frame = DataFrame({**measured, **named})
    return _run(DataSummaryPreset(), frame, described.reference_rows, list(measured), list(named), include_tests=False)


def _run(
    preset: Any,
    frame: DataFrame,
    reference_rows: int,
    numbers: Sequence[str],
    names: Sequence[str],
    *,
    include_tests: bool,
) -> Snapshot:
    from evidently import DataDefinition, Dataset, Report

    definition = DataDefinition(numerical_columns=list(numbers), categorical_columns=list(names))
    reference, current = (
        Dataset.from_pandas(part, data_definition=definition)
        for part in (frame.iloc[:reference_rows], frame.iloc[reference_rows:])
    )
    return Report([preset], include_tests=include_tests).run(current, reference)


def _is_measured(column: CheckedColumn) -> bool:
    return not any(isinstance(value, str) for value in column.values)


def _values(column: CheckedColumn) -> Sequence[float | None] | Sequence[str | None]:
    return [_harmless(value) if isinstance(value, str) else value for value in column.values]  # type: ignore[return-value]


def _finite(value: Any) -> Any:
    """Returns JSON with null in place of infinite numbers and NaN, which Python writes and nobody else reads."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _harmless_all(values: Sequence[str]) -> list[str]:
    known = {value: _harmless(value) for value in set(values)}
    return [known[value] for value in values]


def _harmless(text: str) -> str:
    """Returns a text that looks the same, on one line, in which no reader finds markup."""
    return " ".join(shown(text).split()).translate(_LOOKALIKES)


def _varies(values: Sequence[object]) -> bool:
    """Whether a column has different values; Evidently fails on columns that are empty or constant."""
    return len({value for value in values if value is not None}) > 1
