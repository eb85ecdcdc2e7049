"""Turns an evaluation into the figures of the event, and into the JSON object that the report's page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agents.delivery.outcome import Output
from agents.validator.evaluation import EvaluatedRow, Evaluation, EvaluationPlan
from agents.validator.verdict import HARM_CHANCE, GateVerdict, mean
from schemas.event import JsonObject
from schemas.figures import finite
from schemas.learning import AdapterRejected, AdapterValidated
from schemas.policies import ValidatorPolicy
from schemas.words import comparable

EXAMPLES = 12
"""The most rows that a report shows of those that got better, and of those that got worse."""
SHOWN_POLICY = {"min_gain", "max_drop", "max_general_loss", "chance"}
"""The settings of the policy that a report shows."""
OTHER = "(something else)"
"""Stands in the confusion table for an answer that is none of the labels."""


def scores(evaluation: Evaluation, *, champion: bool) -> dict[str, float]:
    """Returns the figures by name. ``champion``: whether the reference is the champion.

    ``current.*`` and ``retention.*`` are means of the metric, ``general_loss.*`` is in nats per token. A loss that is
    no number is left out.
    """
    evidence = evaluation.evidence
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
    base = [each.scores["base"] for each in evaluation.current if "base" in each.scores]
    if base:
        found["current.base"] = mean(base)
    return finite(found)


def build_report(
    plan: EvaluationPlan,
    evaluation: Evaluation,
    verdict: GateVerdict,
    policy: ValidatorPolicy,
    lineage: JsonObject,
) -> JsonObject:
    """Returns the report on an adapter that was evaluated. ``lineage`` says where it comes from."""
    arms = ("candidate", "reference")
    return {
        **refusal_report(plan.task.name, plan.adapter_id, verdict, lineage),
        "metric": plan.task.metric,
        "champion": plan.champion,
        "reference": evaluation.evidence.reference,
        "scores": scores(evaluation, champion=plan.champion is not None),
        "base_rows": sum("base" in each.scores for each in evaluation.current),
        "left_out": evaluation.left_out,
        "policy": {**policy.model_dump(include=SHOWN_POLICY), "harm_chance": HARM_CHANCE},
        "confusion": {arm: _confusion(evaluation.current, plan.task.labels, arm) for arm in arms}
        if plan.task.labels
        else {},
        "better": _examples(evaluation, better=True),
        "worse": _examples(evaluation, better=False),
    }


def refusal_report(task: str, adapter_id: str, verdict: GateVerdict, lineage: JsonObject) -> JsonObject:
    """Returns the report on an adapter that could not be evaluated."""
    return {
        "task": task,
        "adapter_id": adapter_id,
        "accepted": verdict.accepted,
        "findings": [{"passed": finding.passed, "sentence": finding.sentence} for finding in verdict.findings],
        "lineage": lineage,
    }


def verdict_event(arguments: Mapping[str, Any], result: Mapping[str, Any]) -> Output:
    """Returns the event that reports the result of a finished run."""
    task, adapter_id, scores, uri = arguments["task"], arguments["adapter_id"], result["scores"], result["report_uri"]
    if not result["accepted"]:
        return rejection(task, adapter_id, tuple(result["reasons"]), scores, uri)
    event = AdapterValidated(
        task=task, adapter_id=adapter_id, scores=scores, report_uri=uri, fingerprint=result.get("fingerprint")
    )
    return Output(event=event)


def rejection(
    task: str, adapter_id: str, reasons: tuple[str, ...], scores: dict[str, float] | None = None, uri: str | None = None
) -> Output:
    """Returns the event that rejects an adapter."""
    event = AdapterRejected(task=task, adapter_id=adapter_id, scores=scores or {}, reasons=reasons, report_uri=uri)
    return Output(event=event)


def _confusion(rows: Sequence[EvaluatedRow], labels: Sequence[str], arm: str) -> list[JsonObject]:
    """Counts each pair of a right answer and a given answer, most frequent first."""
    known = {comparable(label): label for label in labels}
    counts = Counter(
        (known.get(comparable(each.row.output), OTHER), known.get(comparable(each.answers[arm]), OTHER))
        for each in rows
    )
    return [{"right": right, "said": said, "rows": count} for (right, said), count in counts.most_common()]


def _examples(evaluation: Evaluation, *, better: bool) -> list[JsonObject]:
    """Returns the rows whose scores changed most."""
    sign = 1 if better else -1
    changes = [
        (sign * (each.scores["candidate"] - each.scores["reference"]), suite, each)
        for suite, rows in (("held out", evaluation.current), ("retention", evaluation.retention))
        for each in rows
    ]
    changes = sorted((each for each in changes if each[0] > 0), key=lambda each: (-each[0], each[2].row.sampling_key))
    return [
        {
            "suite": suite,
            "input": each.row.input,
            "right": each.row.output,
            "candidate": each.answers["candidate"],
            "reference": each.answers["reference"],
        }
        for _, suite, each in changes[:EXAMPLES]
    ]
