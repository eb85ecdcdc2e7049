"""The report on an adapter's validation: one JSON object, and one page of HTML that needs nothing else to be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, replace_file

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --quiet: #5b6673; --line: #d9dee5; --good: #15703f; --bad: #a32020; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
code { font: 13px ui-monospace, monospace; } .quiet { color: var(--quiet); }
.verdict { border-left: 6px solid; padding: .8rem 1.1rem; margin: 1.2rem 0; background: #f6f8fa; }
.good { border-color: var(--good); } .bad { border-color: var(--bad); }
.verdict strong { font-size: 1.15rem; } .good strong, .yes { color: var(--good); }
.bad strong, .no { color: var(--bad); } ul { list-style: none; padding: 0; margin: .6rem 0 0; }
li { margin: .45rem 0; padding-left: 1.6rem; text-indent: -1.6rem; }
li b { display: inline-block; width: 1.6rem; text-indent: 0; }
table { border-collapse: collapse; width: 100%; } .fit { width: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .7rem; text-align: left; vertical-align: top; }
th { font-weight: 600; color: var(--quiet); font-size: 13px; } td.number, th.number { text-align: right; }
td.number { font-variant-numeric: tabular-nums; }
td.text { white-space: pre-wrap; overflow-wrap: break-word; }
.scroll { overflow-x: auto; } .same { background: #e5f3ea; } .other { background: #fbe9e9; } .none { color: #b8c0ca; }
"""


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """``<adapter_id>.html`` and ``.json`` below the folder; gives the page's path. Raises Unavailable.

    ``report``: task, adapter_id, accepted, findings, lineage and at; of an adapter that was examined also metric,
    reference, champion, scores, base_rows, left_out, confusion, better and worse.
    """
    with refusals_as_unavailable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{report['adapter_id']}.html"
    replace_file(page.with_suffix(".json"), [json.dumps(report, ensure_ascii=False, indent=1, default=str).encode()])
    replace_file(page, [render(report).encode()])
    return page


def render(report: Mapping[str, Any]) -> str:
    """The page."""
    title = f"Validation of {report['adapter_id']} for {report['task']}"
    examined = _examined(report) if "scores" in report else ()
    body = "\n".join([_head(report), _verdict(report), *examined, _lineage(report["lineage"])])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    at = str(report.get("at", ""))[:19].replace("T", " ")
    return (
        f"<h1>Validation of an adapter for {escape(report['task'])}</h1>\n"
        f'<p class="quiet">adapter <code>{escape(report["adapter_id"])}</code> · {escape(at)} UTC</p>'
    )


def _verdict(report: Mapping[str, Any]) -> str:
    """What was decided and why, the failed checks first."""
    findings = sorted(report["findings"], key=lambda each: bool(each["passed"]))
    lines = "".join(f"<li>{_mark(each['passed'])}{escape(each['sentence'])}</li>" for each in findings)
    name, kind = ("Accepted", "good") if report["accepted"] else ("Rejected", "bad")
    said = "it may be released" if report["accepted"] else "what is served stays as it is"
    return f'<div class="verdict {kind}"><strong>{name}</strong>: {said}.<ul>{lines}</ul></div>'


def _mark(passed: bool) -> str:
    return '<b class="yes">✓</b>' if passed else '<b class="no">✗</b>'


def _examined(report: Mapping[str, Any]) -> Iterable[str]:
    yield _scores(report)
    reference = str(report["reference"])
    for arm, name in (("candidate", "the candidate"), ("reference", reference)):
        if report["confusion"]:
            yield f"<h2>What is right, and what {escape(name)} said (held-out rows)</h2>"
            yield _confusion(report["confusion"][arm])
    for kind in ("better", "worse"):
        yield f"<h2>Rows that got {kind}</h2>"
        yield _examples(report[kind], reference)


def _scores(report: Mapping[str, Any]) -> str:
    scores: Mapping[str, float] = report["scores"]
    champion = report["champion"] is not None
    lines = []
    measured = (
        ("current", f"{report['metric']}, held-out rows"),
        ("retention", f"{report['metric']}, retention suite"),
        ("general_loss", "loss on general text, nats per token"),
    )
    for name, title in measured:
        if f"{name}.candidate" not in scores:
            continue
        cells = [_number(scores.get(f"{name}.{arm}")) for arm in ("candidate", "champion", "base")]
        rows = scores.get(f"{name}.rows")
        lines.append([escape(title), "" if rows is None else f"{rows:.0f}", *cells])
    table = _table(["", "rows", "candidate", "champion", "base model"], lines, numbers=range(1, 5))
    notes = []
    if champion and report["base_rows"]:
        notes.append(f"The base model was asked {report['base_rows']} of the held-out rows.")
    if not champion:
        notes.append("Nothing is released for this task yet, so the base model is what the candidate is held against.")
    if report["left_out"]:
        notes.append(f"{report['left_out']} rows were left out: their prompts are longer than the model takes.")
    return f'<h2>Scores</h2>{table}<p class="quiet">{escape(" ".join(notes))}</p>'


def _confusion(pairs: Sequence[Mapping[str, Any]]) -> str:
    right = sorted({str(each["right"]) for each in pairs})
    said = [*right, *sorted({str(each["said"]) for each in pairs} - set(right))]
    rows = {(each["right"], each["said"]): int(each["rows"]) for each in pairs}
    head = "".join(f'<th class="number">{escape(each)}</th>' for each in said)
    lines = []
    for label in right:
        cells = [_cell(rows.get((label, each), 0), label == each) for each in said]
        lines.append(f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>")
    head = f"<tr><th>right ↓ said →</th>{head}</tr>"
    return f'<div class="scroll"><table class="fit">{head}{"".join(lines)}</table></div>'


def _cell(rows: int, same: bool) -> str:
    kind = "none" if not rows else "same" if same else "other"
    return f'<td class="number {kind}">{rows or "·"}</td>'


def _examples(examples: Sequence[Mapping[str, Any]], reference: str) -> str:
    if not examples:
        return '<p class="quiet">None.</p>'
    names = ("input", "right", "candidate", "reference", "suite")
    lines = [[f'<span class="text">{escape(str(each[name]))}</span>' for name in names] for each in examples]
    return _table(["message", "right answer", "the candidate", reference, "from"], lines)


def _lineage(lineage: Mapping[str, Any]) -> str:
    lines = []
    for name, value in lineage.items():
        shown = value
        if isinstance(value, Mapping):
            shown = ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
        lines.append([escape(name.replace("_", " ")), f"<code>{escape(str(shown))}</code>"])
    return f"<h2>Where it comes from</h2>{_table(['', ''], lines)}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """The cells are HTML."""
    right = set(numbers)
    kinds = [' class="number"' if place in right else ' class="text"' for place in range(len(head))]
    top = "".join(f"<th{kind}>{escape(each)}</th>" for each, kind in zip(head, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for cell, kind in zip(line, kinds, strict=True))}</tr>"
        for line in lines
    )
    return f'<div class="scroll"><table>{f"<tr>{top}</tr>" if any(head) else ""}{body}</table></div>'


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
