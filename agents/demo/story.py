"""Runs the demo stage by stage: a first adapter, a new product line, drift, and the adapter that follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from agents.demo import shop
from agents.demo.audit import Generate, audit
from agents.demo.customers import Customers, Exchange, accuracy
from agents.demo.event_log import EventLog, LoggedEvent
from agents.demo.report import DemoReport, handoffs
from agents.demo.shop import TASK, interleaved, messages
from agents.demo.terminal import StepFailed, Terminal
from schemas.delivery import Run
from schemas.errors import EverlearnError
from schemas.event import Event
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, DriftDetected, TrainingDeclined
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted, ReleaseEvent

QUESTIONS = ("How long does a parcel to Iceland take?", "Can I put my drysuit into the tumble dryer?")
LAUNCH_QUESTION = "What does it cost to rent Nordic skates for a day?"
ANSWERERS = ("answerer-1", "answerer-2")
TRAINING_SECONDS = 900.0
VALIDATION_SECONDS = 400.0
CANARY_SECONDS = 600.0
DRIFT_SECONDS = 240.0
ADOPTION_SECONDS = 60.0

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, kw_only=True)
class DemoParts:
    """What the story uses besides the command line: customers, the event log, and access to runs and adapters."""

    customers: Customers
    event_log: EventLog
    runs: Callable[[str], list[Run]]
    """Gives an agent's runs for the task, newest first."""
    damaged: Callable[[Sequence[str]], dict[str, str]]
    """Gives the adapters among those whose files do not match their id, with the reason."""
    generator: Callable[[Sequence[str]], AbstractContextManager[Generate]]
    """Opens an engine outside the fleet with those adapters."""


class Story:
    """Runs the stages in order, in a fresh home."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._say, self._note = terminal.say, terminal.note

    def come_up(self) -> None:
        """Starts the stack. The parts can be made only after that."""
        self._say("The stack comes up: Kafka, Milvus, SQL, and the agents, two of them answerers.")
        self._terminal.run("up", "--detach", "--workers", "answerer=2")

    def tell(self, parts: DemoParts) -> DemoReport:
        """Runs all stages once the stack is up, and gives the report."""
        self._parts = parts
        self._answer_from_documents()
        self._first_adapter()
        self._ordinary_days()
        self._launch()
        launched_at, drift = self._drift()
        before, trained = self._retrain(drift)
        started, promoted = self._canary(trained)
        after = self._ask_unseen()
        return self._report(launched_at, drift, trained, started, promoted, before, after)

    # -- the old business --------------------------------------------------------------------------------------------

    def _answer_from_documents(self) -> None:
        self._say("The kayak workshop publishes its help pages; the indexer makes them searchable.")
        self._terminal.json("publish", "documents", str(shop.DOCUMENTS), "--wait")
        for question in QUESTIONS:
            self._ask_support(question)

    def _first_adapter(self) -> None:
        self._say("Messages must reach the right team. A first adapter is trained from examples that the shop has.")
        examples = shop.write_examples(self._terminal.home / "examples.jsonl", messages("examples"))
        self._terminal.run("publish", "examples", str(examples))
        began = len(self._parts.event_log.events)
        self._terminal.run("train", TASK, "--wait", "--timeout", str(int(TRAINING_SECONDS)))
        trained = self._await(AdapterTrained, TRAINING_SECONDS, "the first adapter", began)
        self._validated(trained, began)
        self._say("Half of the customers get it first. They say what they think of the answers.")
        with self._parts.customers.traffic(messages("canary_first")):
            promoted = self._await(AdapterPromoted, CANARY_SECONDS, "the first promotion", began)
        self._tell_promotion(promoted)

    def _ordinary_days(self) -> None:
        self._say("Ordinary days: what comes now is what the monitor takes for normal.")
        exchanges = self._parts.customers.ask(messages("ordinary"), rate=True)
        self._note(f"{len(exchanges)} messages, {accuracy(exchanges):.0%} of them to the right team")

    # -- the new line ------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self._say("The workshop launches Nordic skates. Support cannot know, until the new pages are published …")
        self._ask_support(LAUNCH_QUESTION)
        self._terminal.json("publish", "documents", str(shop.LAUNCH_DOCUMENTS), "--wait")
        self._say("… and answers from them at once, without any training:")
        self._ask_support(LAUNCH_QUESTION)

    def _drift(self) -> tuple[datetime, LoggedEvent]:
        self._say("Customers write about skates. Routing knows no skates team, and some customers correct it.")
        began = len(self._parts.event_log.events)
        customers, fresh = self._parts.customers, messages("drift_new")
        first = len(customers.exchanges)
        exchanges = customers.ask(fresh, rate=True)
        self._note(f"{len(exchanges)} messages about skates, {accuracy(exchanges):.0%} of them to the right team")
        drift = self._await(DriftDetected, DRIFT_SECONDS, "drift", began)
        event = _as(drift.event, DriftDetected)
        self._say(f"The monitor is certain: {event.kind}; what helps: {event.remedy}.")
        for reason in event.evidence.get("reasons", ()):
            self._note(str(reason))
        self._note(f"report: {event.report_uri}")
        if event.remedy != "retrain":
            raise StepFailed(f"the monitor advises {event.remedy}, not training: see its report")
        return customers.exchanges[first].at, drift

    def _retrain(self, drift: LoggedEvent) -> tuple[dict[str, list[Exchange]], LoggedEvent]:
        self._say("The trainer trains. Meanwhile 190 messages that no training sees are put to the old adapter.")
        began = self._parts.event_log.events.index(drift)
        before = self._ask_unseen()
        trained = self._await(AdapterTrained, TRAINING_SECONDS, "the new adapter", began)
        return before, trained

    def _canary(self, trained: LoggedEvent) -> tuple[LoggedEvent, LoggedEvent]:
        began = self._parts.event_log.events.index(trained)
        self._validated(trained, began)
        traffic = interleaved(messages("canary_old"), messages("canary_new"))
        self._say("Canary: half of the customers get the new adapter, while questions keep coming.")
        with self._parts.customers.traffic(traffic):
            started = self._await(CanaryStarted, CANARY_SECONDS, "the canary", began)
            promoted = self._await(AdapterPromoted, CANARY_SECONDS, "the promotion", began)
            sequence = _as(promoted.event, AdapterPromoted).sequence
            self._serving(sequence)
        self._tell_promotion(promoted)
        return started, promoted

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _ask_support(self, question: str) -> None:
        answer = self._terminal.json("ask", question, "--task", "support", "--user", "ada")
        self._terminal.show(f"    {' '.join(str(answer.get('text') or answer.get('reason')).split())}")
        for source in answer.get("sources", ())[:2]:
            self._terminal.show(f"      from “{source['title']}” ({source['score']:.2f})")

    def _ask_unseen(self) -> dict[str, list[Exchange]]:
        unseen = {"old": messages("heldout_old"), "new": messages("heldout_new")}
        asked = {name: self._parts.customers.ask(rows, rate=False) for name, rows in unseen.items()}
        figures = ", ".join(f"{name} {accuracy(exchanges):.3f}" for name, exchanges in asked.items())
        self._note(f"exact match on unseen messages: {figures}")
        return asked

    def _validated(self, trained: LoggedEvent, began: int) -> None:
        event = _as(trained.event, AdapterTrained)
        self._note(f"adapter {event.adapter_id} is trained; the validator judges it")
        validated = self._await(AdapterValidated, VALIDATION_SECONDS, "the verdict", began)
        scores = _as(validated.event, AdapterValidated).scores
        self._note("validated: " + ", ".join(f"{name} {score:.3f}" for name, score in sorted(scores.items())))

    def _tell_promotion(self, promoted: LoggedEvent) -> None:
        event = _as(promoted.event, AdapterPromoted)
        self._say(f"Promoted as release {event.sequence}: {event.champion}")
        self._note(event.reason)

    def _serving(self, sequence: int) -> None:
        deadline = time.monotonic() + ADOPTION_SECONDS
        while not all(self._parts.event_log.serving_since(worker, TASK, sequence) for worker in ANSWERERS):
            if time.monotonic() > deadline:
                raise StepFailed(f"release {sequence} is not served after {ADOPTION_SECONDS:.0f} s: see the status")
            time.sleep(0.1)

    def _await(self, kind: type[Event], seconds: float, what: str, since: int) -> LoggedEvent:
        """The next event of the kind. Raises StepFailed with the reason when a refusal or a rollback comes instead."""
        refusals = (TrainingDeclined, AdapterRejected, AdapterRolledBack)

        def wanted(event: Event) -> bool:
            return isinstance(event, (kind, *refusals)) and getattr(event, "task", None) == TASK

        logged = self._parts.event_log.wait(wanted, seconds, what, since=since)
        if isinstance(logged.event, kind):
            return logged
        reason = getattr(logged.event, "reason", None) or "; ".join(getattr(logged.event, "reasons", ()))
        raise StepFailed(f"{what} did not come, because of {type(logged.event).__name__}: {reason}")

    def _report(
        self,
        launched_at: datetime,
        drift: LoggedEvent,
        trained: LoggedEvent,
        started: LoggedEvent,
        promoted: LoggedEvent,
        before: dict[str, list[Exchange]],
        after: dict[str, list[Exchange]],
    ) -> DemoReport:
        parts, event = self._parts, _as(promoted.event, AdapterPromoted)
        self._say("Every answer is held against what was released when it was given.")
        releases = [release for release, _ in parts.event_log.of_type(ReleaseEvent, TASK)]
        named = sorted({each for release in releases for each in (release.champion, release.challenger) if each})
        with parts.generator(named) as generate:
            audited = audit(parts.customers.exchanges, releases, parts.damaged(named), generate)
        served = [parts.event_log.serving_since(worker, TASK, event.sequence) for worker in ANSWERERS]
        verdicts = parts.event_log.of_type(AdapterValidated, TASK)
        validated, verdict = next(pair for pair in verdicts if pair[0].adapter_id == event.champion)
        return DemoReport(
            before={name: round(accuracy(exchanges), 3) for name, exchanges in before.items()},
            after={name: round(accuracy(exchanges), 3) for name, exchanges in after.items()},
            drift_detected_s=(drift.time - launched_at).total_seconds(),
            promoted_s=(promoted.time - drift.time).total_seconds(),
            handoffs=handoffs(
                runs=parts.runs,
                drift=drift,
                trained=trained,
                validated=verdict,
                started=started,
                promoted=promoted,
                served=[each for each in served if each is not None],
            ),
            adapter_id=event.champion or "",
            asked=len(parts.customers.exchanges),
            failed=sum(not hasattr(each.answer, "text") for each in parts.customers.exchanges),
            wrong=audited.wrong,
            checked=audited.checked,
            probed=audited.probed,
            report=_as(drift.event, DriftDetected).report_uri or "",
            validation_report=validated.report_uri or "",
            seconds=self._terminal.seconds,
        )


def _as(event: Event, kind: type[E]) -> E:
    if not isinstance(event, kind):
        raise EverlearnError(f"expected {kind.type}, and {event.type} came")
    return event
