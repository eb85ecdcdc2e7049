"""Writes the report on a simulation of a policy: a JSON object, and a page of HTML that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.durable_files import refusals_as_unavailable, replace_file
from infra.reports.pages import PAGE_POLICY, file_stem, render_template
from schemas.figures import jsonable


def write_simulation(folder: Path, result: Mapping[str, Any]) -> Path:
    """``<kind>-<task>.html`` and ``.json`` below the folder; gives the page's path. Raises Unavailable.

    ``result``: kind, tasks, policy, traffic, lines and warnings, as ``everlearn simulate --json`` prints it.
    """
    with refusals_as_unavailable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{file_stem('-'.join([result['kind'], *result['tasks']]))}.html"
    replace_file(
        page.with_suffix(".json"),
        [json.dumps(jsonable(result), ensure_ascii=False, indent=1).encode(errors="replace")],
    )
    replace_file(page, [render(result).encode(errors="replace")])
    return page


def render(result: Mapping[str, Any]) -> str:
    """Renders the page."""
    return render_template(f"simulation_{result['kind']}.html.j2", page_policy=PAGE_POLICY, **result)
