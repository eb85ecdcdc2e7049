"""Writes a drift check's report: our verdict on top, Evidently's view of every column below, one page, no network.

Evidently takes five seconds to import, so it belongs into a child process; and whatever it does, the verdict is ours.
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

from infra.reports.drift_page import Page, head
from schemas.drift import DRIFT_CHECK, DriftReport

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head><body style="margin: 0">
{head}
</body></html>
"""
_BELOW = (
    '<div class="el-drift"><h2>Columns, side by side</h2><p class="el-quiet">By Evidently, a description. Its own '
    "&ldquo;dataset drift&rdquo; only says whether any one of these columns is marked; chance does that in at most "
    "{alpha:.1%} of windows, and nothing follows from it.</p></div>"
)
_FAILED = (
    '<div class="el-drift"><h2>Columns, side by side</h2><div class="el-verdict el-unknown">'
    "Evidently's part of this report could not be made: {problem}. The verdict above does not depend on it.</div></div>"
)


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
    """``<folder>/<name>.html`` and ``.json``. ``head``: HTML for the top. ``facts``: JSON beside Evidently's.

    ``alpha``: how often Evidently may mark any column without a difference. Raises OSError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] | None = None
    problem: str | None = None
    try:
        page, found = _evidently(columns, alpha, folder / f"{name}.evidently.part")
        html = page.replace("<body>", f'<body style="margin: 0">\n{head}\n{_BELOW.format(alpha=alpha)}', 1)
        html = html.replace("<head>", f"<head>\n<title>{escape(name)}</title>", 1)
    except Exception as error:  # noqa: BLE001  # another's report must not cost us ours
        problem = f"{type(error).__name__}: {error}"
        html = _PAGE.format(title=escape(name), head=head + _FAILED.format(problem=escape(problem)))
    written = WrittenReport(html=folder / f"{name}.html", json=folder / f"{name}.json", problem=problem)
    whole = {**facts, "evidently": found, "evidently_problem": problem}
    _replace(written.json, json.dumps(whole, indent=1, ensure_ascii=False))
    _replace(written.html, html)
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
        named = {name: values for name, values in columns.named.items() if _varies(values)}
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


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
