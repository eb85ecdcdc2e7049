"""Writes a drift check's report: our verdict on top, Evidently's view of every column below, one page, no network.

Evidently takes five seconds to import, so it belongs into a child process; and whatever it does, the verdict is ours.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, write
from infra.reports.pages import render_template

_HARMLESS = str.maketrans("<>", "‹›")
"""Evidently puts column values into a script of its page without escaping: ``</script>`` in an answer would end it."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Rows of both windows, the ``reference_rows`` first ones the reference: numbers and names by column."""

    reference_rows: int
    measured: Mapping[str, Sequence[float | None]]
    named: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """Where a report lies; ``problem``: why Evidently's part is missing, None where it is there."""

    html: Path
    json: Path
    problem: str | None


def write_report(
    folder: Path, name: str, *, head: str, facts: Mapping[str, Any], columns: Columns, alpha: float
) -> WrittenReport:
    """Writes ``<folder>/<name>.html`` and ``.json``. ``head``: HTML for the top. ``facts``: JSON beside Evidently's.

    ``alpha``: how often Evidently may mark any column without a difference. Raises Unavailable when the disk is full.
    """
    with refusals_as_unavailable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] | None = None
    problem: str | None = None
    try:
        page, found = _evidently(columns, alpha, folder / f"{name}.evidently.part")
        above = f"{head}\n{render_template('drift_columns.html.j2', alpha=alpha, problem=None)}"
        html = page.replace("<body>", f'<body style="margin: 0">\n{above}', 1)
        html = html.replace("<head>", f"<head>\n<title>{escape(name)}</title>", 1)
    except Exception as error:  # noqa: BLE001  # another's report must not cost us ours
        problem = f"{type(error).__name__}: {error}"
        html = render_template("drift.html.j2", title=name, head=head, problem=problem)
    written = WrittenReport(html=folder / f"{name}.html", json=folder / f"{name}.json", problem=problem)
    whole = {**facts, "evidently": found, "evidently_problem": problem}
    write(written.json, [json.dumps(whole, indent=1, ensure_ascii=False).encode()])
    write(written.html, [html.encode()])
    return written


def _evidently(columns: Columns, alpha: float, scratch: Path) -> tuple[str, dict[str, Any]]:
    """Its page and what it found."""
    os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its libraries' own, about columns with few values
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset
        from pandas import DataFrame

        measured = {name: values for name, values in columns.measured.items() if _varies(values)}
        named = {
            name: [value.translate(_HARMLESS) for value in values]
            for name, values in columns.named.items()
            if _varies(values)
        }
        frame = DataFrame({**measured, **named})
        definition = DataDefinition(numerical_columns=list(measured), categorical_columns=list(named))
        reference, current = (
            Dataset.from_pandas(part.reset_index(drop=True), data_definition=definition)
            for part in (frame.iloc[: columns.reference_rows], frame.iloc[columns.reference_rows :])
        )
        # Its default scores and thresholds mark anything at small sizes; these are tests, shared out over the columns.
        count = max(1, len(measured) + len(named))
        drift = DataDriftPreset(
            num_method="ks",
            cat_method="chisquare",
            num_threshold=alpha / count,
            cat_threshold=alpha / count,
            drift_share=int(1000 / count) / 1000,  # any one column
        )
        snapshot = Report([drift, DataSummaryPreset()]).run(current, reference)
        try:
            snapshot.save_html(str(scratch))
            return scratch.read_text(encoding="utf-8"), json.loads(snapshot.json())
        finally:
            scratch.unlink(missing_ok=True)


def _varies(values: Sequence[Any]) -> bool:
    """Whether there is anything to compare; Evidently stumbles over columns that are empty or all the same."""
    return len({value for value in values if value is not None}) > 1
