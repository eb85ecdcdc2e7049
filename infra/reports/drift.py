"""Writes a drift check's report: one page with our verdict on top and Evidently's view of every column below.

Evidently takes five seconds to import, so this runs in a child process. Our part is written even when Evidently fails.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, replace_file
from infra.reports.pages import render_template
from schemas.drift import DRIFT_CHECK, DriftReport
from schemas.figures import jsonable

_HARMLESS = str.maketrans("<>", "‹›")
"""Evidently puts column values into a script of its page without escaping: ``</script>`` in an answer would end it."""

_MEANINGS = {
    "questions": "what is asked",
    "outcomes": "how users rate the answers",
    "failures": "answers that failed",
    "answers": "which labels are answered",
    "sources": "how well sources fit",
}


class DriftReportFolder:
    """Writes the report of each check as ``<folder>/<task>/<check id>.html`` and ``.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, report: DriftReport) -> tuple[str, str | None]:
        """Returns the page's URI and, where Evidently's part of the page failed, why it did.

        Raises Unavailable when the disk is full.
        """
        folder, name = self._folder / report.check.task, report.check.check_id
        with refusals_as_unavailable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        top = head(report)
        found: dict[str, Any] | None = None
        problem: str | None = None
        try:
            page, found = _evidently(report, folder / f"{name}.evidently.part")
            above = f"{top}\n{render_template('drift_columns.html.j2', alpha=report.alpha, problem=None)}"
            html = page.replace("<body>", f'<body style="margin: 0">\n{above}', 1)
            html = html.replace("<head>", f"<head>\n<title>{escape(name)}</title>", 1)
        except Exception as error:  # noqa: BLE001  # whatever Evidently raises, our part is written
            problem = f"{type(error).__name__}: {error}"
            html = render_template("drift.html.j2", title=name, head=top, problem=problem)
        whole = {
            "check": DRIFT_CHECK.dump_python(report.check, mode="json"),
            "windows": [
                {"window": each.window.model_dump(mode="json"), "findings": [asdict(one) for one in each.findings]}
                for each in report.windows
            ],
            "evidently": found,
            "evidently_problem": problem,
        }
        written = folder / f"{name}.html"
        replace_file(folder / f"{name}.json", [json.dumps(jsonable(whole), indent=1, ensure_ascii=False).encode()])
        replace_file(written, [html.encode()])
        return written.as_uri(), problem


def head(report: DriftReport) -> str:
    """Renders the top: an HTML fragment that needs nothing from anywhere else."""
    current = ", ".join(f"{value:g} {name}" for name, value in report.check.figures.items() if "." not in name)
    by_kind = [{finding.kind: finding for finding in window.findings} for window in report.windows]
    newest = report.windows[0].findings if report.windows else ()
    return render_template(
        "drift_head.html.j2",
        check=report.check,
        current=current,
        windows=report.windows,
        tests=[(finding, [findings.get(finding.kind) for findings in by_kind]) for finding in newest],
        meanings=_MEANINGS,
        novel=report.novel,
        alpha=report.alpha,
        flags=report.flags,
        of=report.of,
    )


def _evidently(report: DriftReport, scratch: Path) -> tuple[str, dict[str, Any]]:
    """Runs Evidently: its HTML page, and its findings as JSON."""
    os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its libraries warn about columns with few values
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset
        from pandas import DataFrame

        measured = {name: values for name, values in report.measured.items() if _varies(values)}
        named = {
            name: [value.translate(_HARMLESS) for value in values]
            for name, values in report.named.items()
            if _varies(values)
        }
        frame = DataFrame({**measured, **named})
        definition = DataDefinition(numerical_columns=list(measured), categorical_columns=list(named))
        reference, current = (
            Dataset.from_pandas(part.reset_index(drop=True), data_definition=definition)
            for part in (frame.iloc[: report.reference_rows], frame.iloc[report.reference_rows :])
        )
        # Its default scores mark almost any small window. These are tests, with alpha divided by the number of columns.
        count = max(1, len(measured) + len(named))
        drift = DataDriftPreset(
            num_method="ks",
            cat_method="chisquare",
            num_threshold=report.alpha / count,
            cat_threshold=report.alpha / count,
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
