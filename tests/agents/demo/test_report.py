"""The demo's figures: hand-offs from runs and events, and the object that programs read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from agents.demo.event_log import LoggedEvent
from agents.demo.report import DemoReport, handoffs
from schemas.delivery import Run
from schemas.envelope import new_context
from schemas.learning import DriftDetected
from schemas.promotions import AdapterPromoted

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def logged(seconds: float) -> LoggedEvent:
    event = DriftDetected(task="routing", kind="outcomes", remedy="retrain")
    return LoggedEvent(event=event, context=new_context("/test", now=at(seconds)))


def run(agent: str, created: float, started: float, finished: float) -> Run:
    return Run(
        run_id=f"{agent}-{created}",
        agent=agent,
        kind="x",
        state="done",
        attempt=1,
        created_at=at(created),
        started_at=at(started),
        finished_at=at(finished),
    )


def test_hand_offs_are_the_gaps_between_an_event_and_the_next_start():
    runs = {
        "monitor": [run("monitor", 20, 21, 30), run("monitor", 5, 5.25, 10), run("monitor", 0, 3, 4)],
        "trainer": [run("trainer", 10, 10.5, 100)],
        "validator": [run("validator", 100, 101, 150)],
    }

    gaps = handoffs(
        runs=lambda agent: runs[agent],
        drift=logged(9),  # the verdict; its event is published when the run ends
        trained=logged(100),
        validated=logged(150),
        started=logged(150.5),
        promoted=LoggedEvent(
            event=AdapterPromoted(task="routing", sequence=4), context=new_context("/test", now=at(200))
        ),
        served=[at(200.25), at(200.75)],
    )

    assert list(gaps.values()) == [0.25, 0.5, 1.0, 0.5, 0.75]


def test_the_report_is_one_object_with_the_promised_fields():
    report = DemoReport(
        before={"old": 0.8, "new": 0.0},
        after={"old": 0.8, "new": 0.9},
        drift_detected_s=30.0,
        promoted_s=200.0,
        handoffs={"a": 1.0, "b": 0.5},
        adapter_id="a7",
        asked=10,
        failed=0,
        wrong={},
        checked=10,
        probed=4,
        report="file:///r.html",
        validation_report="file:///v.html",
        seconds=500.0,
    )

    shown = json.loads(report.to_json())

    promised = "before after drift_detected_s promoted_s handoff_s adapter_id asked failed wrong_adapter report seconds"
    assert set(promised.split()) <= set(shown)
    assert (shown["handoff_s"], shown["wrong_adapter"]) == (1.5, 0)
    assert "+0.900" in report.to_text()


def test_hostile_names_stay_one_line_of_json_and_text_without_control_characters():
    hostile = "\x1b[2J</script>\n\x07\u202e"
    report = DemoReport(
        before={"old": 0.5, "new": 0.5},
        after={"old": 0.5, "new": 0.5},
        drift_detected_s=1.0,
        promoted_s=1.0,
        handoffs={hostile: 1.0},
        adapter_id=hostile,
        asked=1,
        failed=0,
        wrong={hostile: hostile},
        checked=1,
        probed=1,
        report=hostile,
        validation_report=hostile,
        seconds=1.0,
    )
    assert not set(report.to_text()) & {"\x1b", "\x07", "\u202e"}
    assert len(report.to_json().splitlines()) == 1
    assert json.loads(report.to_json())["adapter_id"] == hostile
