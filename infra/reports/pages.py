"""Renders the reports' templates. What users and models wrote may hold any HTML.

Every value is escaped, and loses what would reorder or hide the text around it. Each page forbids its browser, besides,
to run scripts and to load anything.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'"
PAGE_POLICY: Final = _NOTHING
"""The content security policy of a page without scripts."""
FRAMING_POLICY: Final = f"{_NOTHING}; frame-src 'self'"
"""The same for a page with a frame. The frame, too, can go nowhere else."""
VIEWER_POLICY: Final = f"{_NOTHING}; script-src {{scripts}}; font-src data:; img-src data: blob:"
"""The policy of a page that runs only the scripts with the given hashes."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that set the direction of text, and halves of characters."""


def render_template(name: str, **values: object) -> str:
    """Fills in a template of the folder ``templates``."""
    return _environment().get_template(name).render(**values)


def shown(text: str) -> str:
    """Returns a text without characters that change how the text around it is shown; ``\ufffd`` is in their place."""
    return _UNSHOWN.sub("\ufffd", text)


def file_stem(identifier: str) -> str:
    """Returns the name of a report's files, without their suffix: the id of what it is about.

    An id may come from a message of anybody. One that is no plain file name (``../../x``) is replaced by its hash.
    """
    if _SAFE_NAME.fullmatch(identifier):
        return identifier
    return hashlib.sha256(identifier.encode(errors="backslashreplace")).hexdigest()[:32]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("infra.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
