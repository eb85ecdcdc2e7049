"""Runs Evidently: its findings, the data of its charts, and the page of scripts that draws such data.

Evidently's own page holds four megabytes of scripts, and the data inside a script. Here the scripts are in a file that
all reports share, the viewer. A report shows it in a sandboxed frame, and hands it the data in the fragment of the
frame's address. So no text from outside is ever part of a script or of markup.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from infra.reports.pages import VIEWER_POLICY, render_template, shown
from schemas.drift import DriftReport

_LOOKALIKES = {ord("<"): "‹", ord(">"): "›", ord("&"): "＆"}
"""Evidently's charts take some texts for markup of their own (Plotly's ``<b>`` and ``<a href>``)."""
LONGEST_FRAGMENT = 1_000_000
"""Characters. Firefox takes addresses of a million, Chromium of two millions; a report has fifty thousand."""

_DRAW = """
"use strict";
(async () => {
  if (window.top === window) return;
  const packed = Uint8Array.from(atob(location.hash.slice(1)), (each) => each.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { dashboard, graphs } = JSON.parse(await new Response(stream).text());
  document.getElementById("notice").remove();
  window.drawDashboard(dashboard, new Map(Object.entries(graphs)), "root");
})().catch((error) => { document.getElementById("notice").textContent = "The charts cannot be drawn: " + error; });
"""
"""Draws what is in the fragment of the address: JSON, compressed, in base64."""


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """The page that draws charts. The name says which version of Evidently it is from, and what its content is."""

    name: str
    content: bytes


def describe_columns(report: DriftReport) -> tuple[str, dict[str, Any]]:
    """Compares the columns of both windows: the charts as the viewer takes them, and Evidently's findings as JSON."""
    os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its libraries warn about columns with few values
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset
        from pandas import DataFrame

        measured = {_harmless(name): values for name, values in report.measured.items() if _varies(values)}
        named = {_harmless(name): _harmless_all(values) for name, values in report.named.items() if _varies(values)}
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
        return _packed(snapshot.get_html_str(as_iframe=False)), _finite(json.loads(snapshot.json()))


def viewer() -> Viewer:
    """Makes the viewer of the installed version of Evidently, which need not be imported. It is the same on each call.

    Raises FileNotFoundError where Evidently has no scripts at their usual place.
    """
    static = Path(str(distribution("evidently").locate_file("evidently"))) / "nbextension" / "static"
    # Evidently's own page defines the name, too: a part of its script was written for Node.
    scripts = [
        "var global = globalThis",
        (static / "index.js").read_text(encoding="utf-8"),
        _DRAW,
    ]
    font = base64.b64encode((static / "material-ui-icons.woff2").read_bytes()).decode()
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    )
    policy = VIEWER_POLICY.format(scripts=hashes)
    content = render_template("evidently_viewer.html.j2", policy=policy, font=font, scripts=scripts).encode()
    version = f"{distribution('evidently').version}-{hashlib.sha256(content).hexdigest()[:16]}"
    return Viewer(name=f"evidently-{version}.html", content=content)


def _packed(page: str) -> str:
    """Takes the data out of Evidently's page, where two variables of the first script hold them as JSON."""
    decoder = json.JSONDecoder()
    dashboard, end = decoder.raw_decode(page, page.index(" = ", page.index("var metric_")) + 3)
    graphs, _ = decoder.raw_decode(page, page.index(" = ", page.index("var additional_graphs_", end)) + 3)
    data = {"dashboard": _drawable(dashboard), "graphs": _drawable(graphs)}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    if len(packed) > LONGEST_FRAGMENT:
        raise ValueError(f"the charts have {len(packed):,} characters, more than browsers take: use fewer labels")
    return packed


def _drawable(value: Any) -> Any:
    """Returns what the scripts need of a part of the data, which is half of it.

    The graphs are there twice: the scripts take them from the second variable, not from the widgets. And no chart shows
    more than six digits. JSON knows no infinite numbers and no NaN.
    """
    if isinstance(value, dict):
        return {name: _drawable(each) for name, each in value.items() if name != "additionalGraphs"}
    if isinstance(value, list):
        return [_drawable(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _finite(value: Any) -> Any:
    """Returns JSON with null in place of infinite numbers and NaN, which Python writes and nobody else reads."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _harmless_all(values: Sequence[str]) -> list[str]:
    known = {value: _harmless(value) for value in set(values)}
    return [known[value] for value in values]


def _harmless(text: str) -> str:
    """Returns a text that looks the same, on one line, in which no reader finds markup."""
    return " ".join(shown(text).split()).translate(_LOOKALIKES)


def _varies(values: Sequence[object]) -> bool:
    """Whether a column has different values; Evidently fails on columns that are empty or constant."""
    return len({value for value in values if value is not None}) > 1
