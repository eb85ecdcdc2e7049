"""The top of a drift report's page: the verdict, its reasons and the tests behind it, readable without the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from schemas.drift import CheckedWindow, DriftCheck, Finding

_STYLE = """
<style>
.el-drift { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: #1d2330; background: #fff;
  max-width: 1060px; margin: 0 auto; padding: 32px 24px 8px; box-sizing: border-box; }
.el-drift h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; font-weight: 650; }
.el-drift h2 { font-size: 17px; margin: 30px 0 8px; font-weight: 650; }
.el-drift p { margin: 6px 0; }
.el-drift .el-quiet { color: #697083; }
.el-drift .el-verdict { border-left: 6px solid #2f8f5b; background: #eef8f2; padding: 14px 18px; margin: 18px 0; }
.el-drift .el-verdict.el-drifted { border-color: #c8442f; background: #fdf1ee; }
.el-drift .el-verdict.el-unknown { border-color: #b08a1e; background: #fdf8e8; }
.el-drift .el-verdict strong { font-size: 19px; }
.el-drift .el-verdict ul { margin: 8px 0 0; padding-left: 20px; }
.el-drift table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.el-drift th, .el-drift td { text-align: left; vertical-align: top; padding: 7px 14px 7px 0;
  border-bottom: 1px solid #e4e7ee; }
.el-drift th { font-weight: 600; color: #697083; font-size: 13px; }
.el-drift td.el-number { white-space: nowrap; }
.el-drift .el-flag { color: #c8442f; font-weight: 650; }
.el-drift ol.el-new { padding-left: 22px; margin: 6px 0; }
</style>
"""
_MEANING = {
    "questions": "what is asked",
    "outcomes": "how users rate the answers",
    "failures": "answers that failed",
    "answers": "which labels are answered",
    "sources": "how well sources fit",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows besides the check itself. ``windows``: newest first. ``novel``: a question of the current
    window and its greatest cosine similarity to one of the reference."""

    check: DriftCheck
    windows: Sequence[CheckedWindow] = ()
    novel: Sequence[tuple[str, float]] = ()
    alpha: float
    flags: int
    of: int


def head(page: Page) -> str:
    """An HTML fragment that needs nothing from anywhere else."""
    check = page.check
    parts = [
        _STYLE,
        '<div class="el-drift">',
        f"<h1>Drift check of {escape(check.task)}</h1>",
        f'<p class="el-quiet">{_time(check.checked_at)} · check {escape(check.check_id)} · '
        f"{'compared since release ' + str(check.baseline) if check.baseline else 'nothing was released before'}</p>",
        _verdict(check),
        _windows(check),
        _tests(page),
        _novel(page.novel),
        "</div>",
    ]
    return "\n".join(parts)


def _verdict(check: DriftCheck) -> str:
    kind, title = "", "No drift"
    if check.verdict is not None:
        kind, title = "el-drifted", f"Drift: {check.verdict} · remedy: {check.remedy}"
    elif not check.findings:
        kind, title = "el-unknown", "Not checked"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in check.reasons)
    return f'<div class="el-verdict {kind}"><strong>{escape(title)}</strong><ul>{reasons}</ul></div>'


def _windows(check: DriftCheck) -> str:
    current = ", ".join(f"{value:g} {name}" for name, value in check.figures.items() if "." not in name)
    rows = [
        [
            "reference",
            str(check.reference.rows),
            _time(check.reference.start),
            _time(check.reference.end),
            "what is normal",
        ],
        ["current", str(check.current.rows), _time(check.current.start), _time(check.current.end), current],
    ]
    return "<h2>Windows</h2>" + _table(("window", "answers", "from", "to", ""), (map(escape, row) for row in rows))


def _tests(page: Page) -> str:
    if not page.windows:
        return ""
    newest = page.windows[0]
    heads = ["test", "finding", "p, current window", *(f"p, {back} earlier" for back in range(1, len(page.windows)))]
    rows = []
    for finding in newest.findings:
        same = [next((each for each in window.findings if each.kind == finding.kind), None) for window in page.windows]
        name = f"<b>{escape(finding.kind)}</b><br><span class='el-quiet'>{_MEANING.get(finding.kind, '')}</span>"
        rows.append([name, escape(finding.detail), *(_p(each) for each in same)])
    note = (
        "A window is flagged when a test's p-value is so low that, over all tests together, chance would do it in "
        f"at most {page.alpha:.1%} of windows (Holm). It is drift when {page.flags} of the last {page.of} windows are "
        "flagged for the same thing; without drift a check says so with a probability of "
        f"{page.alpha * page.of / page.flags:.2%} at most."
    )
    return f"<h2>Tests</h2>{_table(heads, rows)}<p class='el-quiet'>{note}</p>"


def _novel(novel: Sequence[tuple[str, float]]) -> str:
    if not novel:
        return ""
    items = "".join(
        f"<li>{escape(text)} <span class='el-quiet'>({similarity:.2f})</span></li>" for text, similarity in novel
    )
    return (
        "<h2>Current questions least like the reference</h2>"
        "<p class='el-quiet'>With the cosine similarity to the nearest reference question.</p>"
        f"<ol class='el-new'>{items}</ol>"
    )


def _p(finding: Finding | None) -> str:
    if finding is None:
        return "–"
    value = f"{finding.p_value:.4f}" if finding.p_value >= 0.0001 else f"{finding.p_value:.0e}"
    return f"<span class='el-flag'>{value} flagged</span>" if finding.flagged else value


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _time(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
