"""Writes a drift check's report: one page with the verdict on top, and Evidently's charts of the columns below."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from infra.durable_files import refusals_as_unavailable, replace_file
from infra.reports.evidently_charts import Viewer, viewer
from infra.reports.pages import FRAMING_POLICY, file_stem, render_template
from schemas.drift import DRIFT_CHECK, DriftReport
from schemas.figures import jsonable

_MEANINGS = {
    "questions": "what is asked",
    "outcomes": "how users rate the answers",
    "failures": "answers that failed",
    "answers": "which labels are answered",
    "sources": "how well sources fit",
    "declined": "what no document answers",
}
_VIEWERS = "evidently-*.html"


class DriftReportFolder:
    """Writes the report of each check as ``<folder>/<task>/<check id>.html`` and ``.json``.

    All pages share the viewer, ``<folder>/evidently-<version>-<hash>.html``: 3.6 MB that draw Evidently's charts. It
    has to stay as long as any page refers to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, report: DriftReport) -> str:
        """Returns the page's URI. Raises Unavailable when the disk is full."""
        folder = self._folder / report.check.task
        page = folder / f"{file_stem(report.check.check_id)}.html"
        with refusals_as_unavailable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        shared = viewer() if report.detection.charts is not None else None
        if shared is not None:
            self._share(shared)
        whole = {
            "check": DRIFT_CHECK.dump_python(report.check, mode="json"),
            "windows": [
                {"window": each.window.model_dump(mode="json"), "findings": [asdict(one) for one in each.findings]}
                for each in report.windows
            ],
            "columns": {kind: asdict(result) for kind, result in report.detection.results.items()},
            "evidently": report.detection.found,
            "evidently_problem": report.detection.problem,
        }
        replace_file(
            page.with_suffix(".json"),
            [json.dumps(jsonable(whole), indent=1, ensure_ascii=False).encode(errors="replace")],
        )
        replace_file(page, [render(report, shared.name if shared else None).encode(errors="replace")])
        return page.as_uri()

    def _share(self, shared: Viewer) -> None:
        """Writes the viewer, once. Then those of earlier versions of Evidently may go, if no page refers to them."""
        if (self._folder / shared.name).exists():
            return
        replace_file(self._folder / shared.name, [shared.content])
        old = {each.name for each in self._folder.glob(_VIEWERS)} - {shared.name}
        for page in self._folder.glob("*/*.html") if old else ():
            text = page.read_text(encoding="utf-8", errors="replace")
            old = {name for name in old if name not in text}
        for name in old:
            (self._folder / name).unlink(missing_ok=True)


def render(report: DriftReport, viewer_name: str | None = None) -> str:
    """Renders the page. ``viewer_name``: the file that draws the charts, if there are any."""
    current = ", ".join(f"{value:g} {name}" for name, value in report.check.figures.items() if "." not in name)
    by_kind = [{finding.kind: finding for finding in window.findings} for window in report.windows]
    newest = report.windows[0].findings if report.windows else ()
    return render_template(
        "drift.html.j2",
        policy=FRAMING_POLICY,
        check=report.check,
        current=current,
        windows=report.windows,
        tests=[(finding, [findings.get(finding.kind) for findings in by_kind]) for finding in newest],
        results=report.detection.results,
        meanings=_MEANINGS,
        novel=report.novel,
        to_label=report.to_label,
        alpha=report.alpha,
        flags=report.flags,
        of=report.of,
        viewer=viewer_name,
        charts=report.detection.charts,
        by_evidently=report.detection.found is not None,
        problem=report.detection.problem,
    )
