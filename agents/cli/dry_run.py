"""What ``publish documents`` would do, printed: nothing is sent and nothing remembered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from agents.cli.folders import Folder
from agents.cli.jsonl import Item, Refusal
from agents.cli.output import conclude, counted, one_line
from agents.cli.sending import Tally, record_of
from agents.cli.sources import Document
from schemas.documents import DocumentSubmitted, DocumentWithdrawn

WIDEST = 300


def show(items: Iterable[Item[Document] | Refusal], path: str, *, as_json: bool) -> None:
    """A line for each document that would be sent, withdrawn, passed over or refused; one object for a program.

    Raises EverlearnError where publishing would: when something is refused, and when there is nothing at all.
    """
    tally = Tally()
    found: dict[str, list[Any]] = {"send": [], "withdraw": [], "pass over": [], "refuse": []}

    def add(what: str, name: str) -> None:
        name = name.encode("utf-8", "replace").decode()  # a file's name may hold bytes that are no text
        found[what].append(name)
        if not as_json:
            click.echo(f"{what:<9}  {one_line(name, WIDEST)}")

    for item in items:
        refusal = item if isinstance(item, Refusal) else record_of(item)
        if isinstance(refusal, Refusal):
            tally.refused += 1
            add("refuse", str(refusal))
        elif isinstance(item, Item):
            tally.sent[type(item.value)] += 1
            add("send" if isinstance(item.value, DocumentSubmitted) else "withdraw", item.value.document_id)
    if isinstance(items, Folder):
        for name in sorted(items.listing.passed_over):
            add("pass over", name)
    unchanged = items.unchanged if isinstance(items, Folder) else 0
    if not unchanged:
        tally.require_something(path)
    report = {
        "dry_run": True,
        "send": found["send"],
        "withdraw": found["withdraw"],
        "passed_over": found["pass over"],
        "refused": found["refuse"],
        "unchanged": unchanged,
    }
    conclude(report, _sentence(tally, unchanged, len(found["pass over"])), as_json=as_json)
    tally.end(path)


def _sentence(tally: Tally, unchanged: int, passed_over: int) -> str:
    parts = [f"would publish {counted(tally.sent[DocumentSubmitted], 'document')}"]
    if tally.sent[DocumentWithdrawn]:
        parts.append(f"withdraw {tally.sent[DocumentWithdrawn]:,}")
    parts += [
        f"{count:,} {what}"
        for count, what in ((unchanged, "unchanged"), (passed_over, "passed over"), (tally.refused, "refused"))
        if count
    ]
    return ", ".join(parts)
