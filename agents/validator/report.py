"""Puts an examination into one JSON object: what the event says in figures, and what the report's page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agents.delivery.outcome import Output
from agents.validator.evaluation import Asked, Case, Examination
from agents.validator.verdict import HARM_CHANCE, GateVerdict, ValidationPolicy, mean
from schemas.learning import AdapterRejected, AdapterValidated

EXAMPLES = 12
"""Rows that got better, and as many that got worse, which the report shows."""
OTHER = "(something else)"
"""In the confusion table: an answer that is none of the labels."""


def scores(examined: Examination, *, champion: bool) -> dict[str, float]:
    """By name: ``current.*`` and ``retention.*`` are means of the metric, ``general_loss.*`` nats per token."""
    evidence = examined.evidence
    reference = "champion" if champion else "base"
    found = {
        "current.candidate": mean(evidence.current.candidate),
        f"current.{reference}": mean(evidence.current.reference),
        "current.rows": float(evidence.current.rows),
        "general_loss.candidate": evidence.general_candidate,
        "general_loss.base": evidence.general_base,
    }
    if evidence.retention.rows:
        found["retention.candidate"] = mean(evidence.retention.candidate)
        found[f"retention.{reference}"] = mean(evidence.retention.reference)
        found["retention.rows"] = float(evidence.retention.rows)
    base = [each.scores["base"] for each in examined.current if "base" in each.scores]
    if base:
        found["current.base"] = mean(base)
    return found


def build_report(
    case: Case, examined: Examination, verdict: GateVerdict, policy: ValidationPolicy, lineage: dict[str, Any]
) -> dict[str, Any]:
    """``lineage``: what is known of where the adapter comes from, by name, to be shown as it is."""
    arms = ("candidate", "reference")
    return {
        **refusal_report(case.task.name, case.adapter_id, verdict, lineage),
        "metric": case.task.metric,
        "champion": case.champion,
        "reference": examined.evidence.reference,
        "scores": scores(examined, champion=case.champion is not None),
        "base_rows": sum("base" in each.scores for each in examined.current),
        "left_out": examined.left_out,
        "policy": {**vars(policy), "harm_chance": HARM_CHANCE},
        "confusion": {arm: _confusion(examined.current, case.task.labels, arm) for arm in arms}
        if case.task.labels
        else {},
        "better": _examples(examined, better=True),
        "worse": _examples(examined, better=False),
    }


def refusal_report(task: str, adapter_id: str, verdict: GateVerdict, lineage: dict[str, Any]) -> dict[str, Any]:
    """The report on an adapter that was not examined."""
    return {
        "task": task,
        "adapter_id": adapter_id,
        "accepted": verdict.accepted,
        "findings": [{"passed": finding.passed, "sentence": finding.sentence} for finding in verdict.findings],
        "lineage": lineage,
    }


def verdict_event(arguments: Mapping[str, Any], result: Mapping[str, Any]) -> Output:
    """What a finished run found, as the event that tells of it."""
    task, adapter_id, scores, uri = arguments["task"], arguments["adapter_id"], result["scores"], result["report_uri"]
    if not result["accepted"]:
        return rejection(task, adapter_id, tuple(result["reasons"]), scores, uri)
    return Output(event=AdapterValidated(task=task, adapter_id=adapter_id, scores=scores, report_uri=uri))


def rejection(
    task: str, adapter_id: str, reasons: tuple[str, ...], scores: dict[str, float] | None = None, uri: str | None = None
) -> Output:
    """The event that refuses an adapter."""
    event = AdapterRejected(task=task, adapter_id=adapter_id, scores=scores or {}, reasons=reasons, report_uri=uri)
    return Output(event=event)


def _confusion(asked: Sequence[Asked], labels: Sequence[str], arm: str) -> list[dict[str, Any]]:
    """One entry a pair of a right answer and what was said, most frequent first."""
    known = {label.strip().casefold(): label for label in labels}
    counts = Counter(
        (known.get(each.row.output.strip().casefold(), OTHER), known.get(each.said[arm].strip().casefold(), OTHER))
        for each in asked
    )
    return [{"right": right, "said": said, "rows": rows} for (right, said), rows in counts.most_common()]


def _examples(examined: Examination, *, better: bool) -> list[dict[str, Any]]:
    """Those that changed most."""
    sign = 1 if better else -1
    changes = [
        (sign * (each.scores["candidate"] - each.scores["reference"]), suite, each)
        for suite, asked in (("held out", examined.current), ("retention", examined.retention))
        for each in asked
    ]
    changes = sorted((each for each in changes if each[0] > 0), key=lambda each: (-each[0], each[2].row.sampling_key))
    return [
        {
            "suite": suite,
            "input": each.row.input,
            "right": each.row.output,
            "candidate": each.said["candidate"],
            "reference": each.said["reference"],
        }
        for _, suite, each in changes[:EXAMPLES]
    ]
