"""Texts that try to become a part of a page, and what a page consists of."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from lxml import html  # type: ignore[import-untyped]  # it ships no types

ATTACK = "document.title='hit',console.log('hit'),alert('hit')"
"""What each of the texts tries to have run."""
HOSTILE = (
    f"</script><script>{ATTACK}</script>",
    f"<script>{ATTACK}</script>",
    f"</style></title></textarea></iframe></noscript>--><script>{ATTACK}</script>",
    f'<img src=x onerror="{ATTACK}">',
    f'<svg/onload="{ATTACK}">',
    f'" onload="{ATTACK}" autofocus onfocus="{ATTACK}" x="',
    f"' onload='{ATTACK}' x='",
    f'<a href="javascript:{ATTACK}" id=link>click</a>',
    f"javascript:{ATTACK}",
    f"[click](javascript:{ATTACK})",
    f'<iframe srcdoc="<script>parent.{ATTACK}</script>"></iframe>',
    f'<iframe src="data:text/html,<script>{ATTACK}</script>"></iframe>',
    "<base href=http://127.0.0.1:9/><meta http-equiv=refresh content=0;url=data:text/html,hit>",
    "<object data=x></object><embed src=x><form action=x><input autofocus></form>",
    f"<!--<script>{ATTACK}",
    f"\u2028{ATTACK}\u2029//",
    f'"}};{ATTACK};//',
    f"${{{ATTACK}}} {{{{ 7 * 7 }}}} {{% endraw %}} {{# x #}}",
    f"\\u003cscript>{ATTACK}\\u003c/script>",
    f"&lt;script&gt;{ATTACK}&lt;/script&gt;",
    f"＜script＞{ATTACK}",
    "../../../../escaped",
    "\x00\x08\x1b[2J\u202e\ud800\ufeff",
    "__proto__",
    "a" * 5000,
)


class Words:
    """Texts for a report, no two of which are equal: harmless ones, or hostile ones drawn with a seed."""

    def __init__(self, seed: int | None = None) -> None:
        self._drawn = None if seed is None else random.Random(seed)
        self._count = 0

    def __call__(self) -> str:
        self._count += 1
        if self._drawn is None:
            return f"word {self._count}"
        return f"{' '.join(self._drawn.sample(HOSTILE, self._drawn.randint(1, 3)))} {self._count}"

    def instead(self, value: Any, *, names: bool = True) -> Any:
        """The same structure with new texts. ``names``: those by which mappings name their values, too."""
        if isinstance(value, str):
            return self()
        if is_dataclass(value) and not isinstance(value, type):
            parts = {each.name: self.instead(getattr(value, each.name), names=names) for each in fields(value)}
            return replace(value, **parts)
        if isinstance(value, Mapping):
            return {self() if names else name: self.instead(each, names=names) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.instead(each, names=names) for each in value)
        return value


def elements(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page as a parser of HTML finds them, each with the names of its attributes."""
    return [(str(each.tag), tuple(sorted(each.attrib))) for each in _parsed(page).iter()]


def addresses(page: str) -> list[str]:
    """The values of all attributes that a browser may follow or run."""
    followed = {"href", "src", "srcdoc", "data", "action", "formaction", "content", "style"}
    return [value for each in _parsed(page).iter() for name, value in each.attrib.items() if name in followed]


def _parsed(page: str) -> Any:
    return html.document_fromstring(
        page.encode(errors="replace"), parser=html.HTMLParser(encoding="utf-8", huge_tree=True)
    )
