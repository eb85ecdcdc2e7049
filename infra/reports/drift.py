"""Writes a drift check's report: one page with our verdict on top and Evidently's view of every column below.

Evidently takes five seconds to import, so this runs in a child process. Our part is written even when Evidently fails.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, replace_file
from infra.reports.evidently_charts import Viewer, describe_columns, viewer
from infra.reports.pages import FRAMING_POLICY, file_stem, render_template
from schemas.drift import DRIFT_CHECK, DriftReport
from schemas.figures import jsonable

_MEANINGS = {
    "questions": "what is asked",
    "outcomes": "how users rate the answers",
    "failures": "answers that failed",
    "answers": "which labels are answered",
    "sources": "how well sources fit",
}
_VIEWERS = "evidently-*.html"


class DriftReportFolder:
    """Writes the report of each check as ``<folder>/<task>/<check id>.html`` and ``.json``.

    All pages share the viewer, ``<folder>/evidently-<version>-<hash>.html``: 3.6 MB that draw Evidently's charts. It
    has to stay as long as any page refers to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, report: DriftReport) -> tuple[str, str | None]:
        """Returns the page's URI and, where Evidently's part of the page failed, why it did.

        Raises Unavailable when the disk is full.
        """
        folder = self._folder / report.check.task
        page = folder / f"{file_stem(report.check.check_id)}.html"
        with refusals_as_unavailable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] | None = None
        problem: str | None = None
        try:
            charts, found = describe_columns(report)
            shared = viewer()
        except Exception as error:  # noqa: BLE001  # whatever Evidently raises, our part is written
            problem = f"{type(error).__name__}: {error}"
            html = render(report, problem=problem)
        else:
            self._share(shared)
            html = render(report, viewer_name=shared.name, charts=charts)
        whole = {
            "check": DRIFT_CHECK.dump_python(report.check, mode="json"),
            "windows": [
                {"window": each.window.model_dump(mode="json"), "findings": [asdict(one) for one in each.findings]}
                for each in report.windows
            ],
            "evidently": found,
            "evidently_problem": problem,
        }
        replace_file(
            page.with_suffix(".json"),
            [json.dumps(jsonable(whole), indent=1, ensure_ascii=False).encode(errors="replace")],
        )
        replace_file(page, [html.encode(errors="replace")])
        return page.as_uri(), problem

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


def render(
    report: DriftReport, *, viewer_name: str | None = None, charts: str | None = None, problem: str | None = None
) -> str:
    """Renders the page.

    ``charts``: what the viewer is to draw; None if Evidently failed, with ``problem``.
    """
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
        meanings=_MEANINGS,
        novel=report.novel,
        alpha=report.alpha,
        flags=report.flags,
        of=report.of,
        viewer=viewer_name,
        charts=charts,
        problem=problem,
    )
