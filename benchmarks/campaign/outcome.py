"""Turns the findings of an audit into the fields of a block's result."""

from __future__ import annotations

from benchmarks.campaign.audit import Findings
from schemas.event import JsonObject


def counts(findings: Findings) -> JsonObject:
    return {
        "events": findings.events,
        "lost": len(findings.lost),
        "doubled": len(findings.doubled),
        "dead_letters": len(findings.dead_letters),
        "given_up": len(findings.given_up),
        "repeated": findings.repeated,
    }


def found(findings: Findings, most: int = 20) -> list[str]:
    """Returns the first lines of everything that is wrong."""
    return [line for each in _wrong(findings) for line in each[:most]]


def clean(findings: Findings) -> bool:
    return not any(_wrong(findings))


def _wrong(findings: Findings) -> tuple[tuple[str, ...], ...]:
    return findings.lost, findings.doubled, findings.dead_letters, findings.given_up
