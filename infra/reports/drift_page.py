"""Renders the top of a drift report: the verdict, its reasons and the tests behind it, readable without the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.reports.pages import render_template
from schemas.drift import CheckedWindow, DriftCheck

_MEANINGS = {
    "questions": "what is asked",
    "outcomes": "how users rate the answers",
    "failures": "answers that failed",
    "answers": "which labels are answered",
    "sources": "how well sources fit",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the top of a page shows. ``windows``: newest first.

    ``novel``: questions of the current window, each with its greatest cosine similarity to a reference question.
    """

    check: DriftCheck
    windows: Sequence[CheckedWindow] = ()
    novel: Sequence[tuple[str, float]] = ()
    alpha: float
    flags: int
    of: int


def head(page: Page) -> str:
    """Renders the top: an HTML fragment that needs nothing from anywhere else."""
    current = ", ".join(f"{value:g} {name}" for name, value in page.check.figures.items() if "." not in name)
    by_kind = [{finding.kind: finding for finding in window.findings} for window in page.windows]
    newest = page.windows[0].findings if page.windows else ()
    return render_template(
        "drift_head.html.j2",
        check=page.check,
        current=current,
        windows=page.windows,
        tests=[(finding, [findings.get(finding.kind) for findings in by_kind]) for finding in newest],
        meanings=_MEANINGS,
        novel=page.novel,
        alpha=page.alpha,
        flags=page.flags,
        of=page.of,
    )
