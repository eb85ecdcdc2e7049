"""Takes Evidently's pages apart: the data of their charts, and the page of scripts that draws such data.

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
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from infra.reports.pages import VIEWER_POLICY, render_template

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


def packed(pages: Sequence[str]) -> str:
    """Takes the data out of Evidently's pages, where two variables of the first script hold them as JSON.

    Returns one page's data, as the viewer takes them. Raises ValueError if they are too long for an address.
    """
    decoder = json.JSONDecoder()
    dashboards: list[dict[str, Any]] = []
    graphs: dict[str, Any] = {}
    for page in pages:
        dashboard, end = decoder.raw_decode(page, page.index(" = ", page.index("var metric_")) + 3)
        own, _ = decoder.raw_decode(page, page.index(" = ", page.index("var additional_graphs_", end)) + 3)
        dashboards.append(dashboard)
        graphs |= own
    # A preset's charts are a group. Beside it are lists of the tests, which say the same with two digits only.
    groups = [widget for each in dashboards for widget in each["widgets"] if widget["type"] == "group"]
    whole = {**dashboards[0], "widgets": groups}
    data = {"dashboard": _drawable(whole), "graphs": _drawable(graphs)}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    compressed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    if len(compressed) > LONGEST_FRAGMENT:
        raise ValueError(f"the charts have {len(compressed):,} characters, more than browsers take: use fewer labels")
    return compressed


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
