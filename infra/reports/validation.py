"""Writes the report on an adapter's validation: a JSON object, and a page of HTML that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, replace_file
from infra.reports.pages import PAGE_POLICY, file_stem, render_template
from schemas.figures import jsonable


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """``<adapter_id>.html`` and ``.json`` below the folder; gives the page's path. Raises Unavailable.

    The id of an adapter comes from a message. One that is no plain file name is replaced by its hash (``file_stem``).

    ``report``: task, adapter_id, accepted, findings, lineage and at; of an adapter that was examined also metric,
    reference, champion, scores, base_rows, left_out, stale, tries, level, flips, slices, small_slices, policy,
    confusion, better and worse.
    """
    with refusals_as_unavailable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{file_stem(report['adapter_id'])}.html"
    replace_file(
        page.with_suffix(".json"),
        [json.dumps(jsonable(report), ensure_ascii=False, indent=1, default=str).encode(errors="replace")],
    )
    replace_file(page, [render(report).encode(errors="replace")])
    return page


def read_report(folder: Path, adapter_id: str) -> dict[str, Any] | None:
    """Returns the object that ``write_report`` wrote below the folder; None where it is gone or damaged."""
    try:
        found = json.loads((folder / f"{file_stem(adapter_id)}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def render(report: Mapping[str, Any]) -> str:
    """Renders the page."""
    examined: dict[str, object] = {}
    if "scores" in report:
        confusion = report["confusion"]
        arms = (("the candidate", "candidate"), (report["reference"], "reference"))
        flipped = {each["row_id"] for each in report["flips"]["listed"]}
        examined["worse"] = [each for each in report["worse"] if each["row_id"] not in flipped]
        examined["small_slices"] = [
            f"{each['kind']} {each['name']} ({each['rows']})" for each in report["small_slices"]
        ]
        examined["confusion_tables"] = [(name, _confusion(confusion[arm])) for name, arm in arms] if confusion else []
    values = {
        **report,
        **examined,
        "policy": PAGE_POLICY,
        "at": str(report.get("at", ""))[:19].replace("T", " "),
        "lineage": {name: _shown(value) for name, value in report["lineage"].items()},
    }
    return render_template("validation.html.j2", **values)


@dataclass(frozen=True, kw_only=True)
class _Confusion:
    """How many rows of each right label got each label as the answer; the right labels come first in ``given``."""

    right: Sequence[str]
    given: Sequence[str]
    rows: Mapping[tuple[str, str], int]


def _confusion(pairs: Sequence[Mapping[str, Any]]) -> _Confusion:
    right = sorted({str(each["right"]) for each in pairs})
    others = sorted({str(each["said"]) for each in pairs} - set(right))
    rows = {(str(each["right"]), str(each["said"])): int(each["rows"]) for each in pairs}
    return _Confusion(right=right, given=[*right, *others], rows=rows)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_rounded(each)}" for key, each in value.items())
    return str(value)


def _rounded(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
