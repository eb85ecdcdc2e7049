"""Writes a drift check's report: one page with our verdict on top and Evidently's view of every column below.

Evidently takes five seconds to import, so this runs in a child process. Our part is written even when Evidently fails.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, replace_file
from infra.reports.drift_page import Page, head
from infra.reports.pages import render_template
from schemas.drift import DRIFT_CHECK, DriftReport

_HARMLESS = str.maketrans("<>", "‹›")
"""Evidently puts column values into a script of its page without escaping: ``</script>`` in an answer would end it."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The rows of both windows, by column; the first ``reference_rows`` rows are the reference window."""

    reference_rows: int
    measured: Mapping[str, Sequence[float | None]]
    named: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """The files of a report. ``problem``: why Evidently's part is missing; None where it is there."""

    html: Path
    json: Path
    problem: str | None


class DriftReportFolder:
    """Writes the report of each check as ``<folder>/<task>/<check id>.html`` and ``.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, report: DriftReport) -> tuple[str, str | None]:
        """Returns the page's URI and, where Evidently's part of the page failed, why it did."""
        check = report.check
        page = Page(
            check=check,
            windows=report.windows,
            novel=report.novel,
            alpha=report.alpha,
            flags=report.flags,
            of=report.of,
        )
        facts = {
            "check": DRIFT_CHECK.dump_python(check, mode="json"),
            "windows": [
                {"window": each.window.model_dump(mode="json"), "findings": [asdict(one) for one in each.findings]}
                for each in report.windows
            ],
        }
        written = write_report(
            self._folder / check.task,
            check.check_id,
            head=head(page),
            facts=facts,
            columns=Columns(reference_rows=report.reference_rows, measured=report.measured, named=report.named),
            alpha=report.alpha,
        )
        return written.html.as_uri(), written.problem


def write_report(
    folder: Path, name: str, *, head: str, facts: Mapping[str, Any], columns: Columns, alpha: float
) -> WrittenReport:
    """Writes ``<folder>/<name>.html`` and ``.json``. ``head``: HTML for the top. ``facts``: JSON beside Evidently's.

    ``alpha``: the probability that Evidently marks any column by chance. Raises Unavailable when the disk is full.
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
    except Exception as error:  # noqa: BLE001  # whatever Evidently raises, our part is written
        problem = f"{type(error).__name__}: {error}"
        html = render_template("drift.html.j2", title=name, head=head, problem=problem)
    written = WrittenReport(html=folder / f"{name}.html", json=folder / f"{name}.json", problem=problem)
    whole = {**facts, "evidently": found, "evidently_problem": problem}
    replace_file(written.json, [json.dumps(whole, indent=1, ensure_ascii=False).encode()])
    replace_file(written.html, [html.encode()])
    return written


def _evidently(columns: Columns, alpha: float, scratch: Path) -> tuple[str, dict[str, Any]]:
    """Runs Evidently: its HTML page, and its findings as JSON."""
    os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its libraries warn about columns with few values
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
        # Its default scores mark almost any small window. These are tests, with alpha divided by the number of columns.
        count = max(1, len(measured) + len(named))
        drift = DataDriftPreset(
            num_method="ks",
            cat_method="chisquare",
            num_threshold=alpha / count,
            cat_threshold=alpha / count,
            drift_share=int(1000 / count) / 1000,  # one marked column is enough
        )
        snapshot = Report([drift, DataSummaryPreset()]).run(current, reference)
        try:
            snapshot.save_html(str(scratch))
            return scratch.read_text(encoding="utf-8"), json.loads(snapshot.json())
        finally:
            scratch.unlink(missing_ok=True)


def _varies(values: Sequence[object]) -> bool:
    """Whether a column has different values; Evidently fails on columns that are empty or constant."""
    return len({value for value in values if value is not None}) > 1
