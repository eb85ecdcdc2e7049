"""The measurements of the demo: as the last line of ``--json``, and as the table that a person reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from agents.cli.output import JsonObject, columns, facts
from agents.demo.event_log import LoggedEvent
from schemas.delivery import Run


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """``before`` and ``after``: exact match on unseen messages, the champion before the launch and the one after it.

    ``drift_detected_s``: from the first message about the new line to the drift's event. ``promoted_s``: from there to
    the promotion. ``handoffs``: seconds between an event and the next agent's start. ``asked`` counts routing
    questions; ``wrong`` names those of them that another adapter answered than was released for that user.
    """

    before: dict[str, float]
    after: dict[str, float]
    drift_detected_s: float
    promoted_s: float
    handoffs: dict[str, float]
    adapter_id: str
    asked: int
    failed: int
    wrong: dict[str, str]
    checked: int
    probed: int
    report: str
    validation_report: str
    seconds: float

    @property
    def handoff_s(self) -> float:
        return sum(self.handoffs.values())

    def as_json(self) -> JsonObject:
        return {
            "before": self.before,
            "after": self.after,
            "drift_detected_s": round(self.drift_detected_s, 1),
            "promoted_s": round(self.promoted_s, 1),
            "handoff_s": round(self.handoff_s, 2),
            "handoffs": {name: round(seconds, 2) for name, seconds in self.handoffs.items()},
            "adapter_id": self.adapter_id,
            "asked": self.asked,
            "failed": self.failed,
            "wrong_adapter": len(self.wrong),
            "probed": self.probed,
            "report": self.report,
            "validation_report": self.validation_report,
            "seconds": round(self.seconds, 1),
        }

    def to_json(self) -> str:
        return json.dumps(self.as_json())

    def to_text(self) -> str:
        rows = [
            (name, self.before[key], self.after[key], f"{self.after[key] - self.before[key]:+.3f}")
            for name, key in (("messages of the old business", "old"), ("messages about the new line", "new"))
        ]
        table = columns(("unseen messages, exact match", "before", "after", "change"), rows)
        handoffs = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.handoffs.items())
        rest = facts(
            {
                "drift detected after": f"{self.drift_detected_s:.0f} s of new messages",
                "from drift to promotion": f"{self.promoted_s:.0f} s",
                "hand-offs together": f"{self.handoff_s:.2f} s ({handoffs})",
                "questions": f"{self.asked} asked, {self.failed} failed, {len(self.wrong)} by a wrong adapter",
                "checked": f"{self.checked} answers against promotions.v1 and the hashes, {self.probed} by their text",
                "adapter": self.adapter_id,
                "drift report": self.report,
                "validation report": self.validation_report,
                "time": f"{self.seconds:.0f} s",
            }
        )
        return f"{table}\n\n{rest}"


def handoffs(
    *,
    runs: Callable[[str], list[Run]],
    drift: LoggedEvent,
    trained: LoggedEvent,
    validated: LoggedEvent,
    started: LoggedEvent,
    promoted: LoggedEvent,
    served: Sequence[datetime],
) -> dict[str, float]:
    """Seconds between each event of the loop and the start of the agent that it is for.

    The last entry ends when all answerers serve the promoted adapter. ``runs`` gives an agent's runs, newest first.
    """
    check = _run_of(runs("monitor"), drift)
    return {
        "check asked to begun": _between(check.created_at, check.started_at),
        # The event has the time of the verdict; it is published when the check's report is written.
        "drift to training": _between(check.finished_at or drift.time, runs("trainer")[0].started_at),
        "adapter to validation": _between(trained.time, runs("validator")[0].started_at),
        "validation to canary": _between(validated.time, started.time),
        "promotion to served": _between(promoted.time, max(served)),
    }


def _run_of(runs: Sequence[Run], logged: LoggedEvent) -> Run:
    """The run that was under way at the time of the event."""
    during = [run for run in runs if (run.created_at or logged.time) <= logged.time <= (run.finished_at or logged.time)]
    return during[0] if during else runs[0]


def _between(earlier: datetime | None, later: datetime | None) -> float:
    return max(0.0, (later - earlier).total_seconds()) if earlier is not None and later is not None else float("nan")
