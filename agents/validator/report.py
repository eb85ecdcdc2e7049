"""Turns an evaluation into the figures of the event, and into the JSON object that the report's page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agents.delivery.outcome import Output
from agents.validator.evaluation import EvaluatedRow, Evaluation, EvaluationPlan
from agents.validator.significance import level_of_try
from agents.validator.verdict import HARM_CHANCE, GateVerdict, mean, slice_fails
from schemas.event import JsonObject
from schemas.figures import finite
from schemas.learning import AdapterRejected, AdapterValidated
from schemas.policies import ValidatorPolicy
from schemas.words import comparable

EXAMPLES = 12
"""The most rows that a report shows of those that got better, and of those that got worse."""
FLIPS = 50
"""The most rows that a report lists of those that turned from right to wrong."""
SHOWN_POLICY = {"min_gain", "max_drop", "max_general_loss", "max_flips", "max_slice_drop", "chance"}
"""The settings of the policy that a report shows."""
OTHER = "(something else)"
"""Stands in the confusion table for an answer that is none of the labels."""


def scores(evaluation: Evaluation, *, champion: bool) -> dict[str, float]:
    """Returns the figures by name. ``champion``: whether the reference is the champion.

    ``current.*``, ``retention.*`` and ``golden.*`` are means of the metric, ``general_loss.*`` is in nats per token.
    ``flips.rows``: how many of ``flips.of`` rows turned from right to wrong. ``divergence.candidate``: KL(base ||
    candidate) in nats per token, on the prompts of held-out rows and along the base model's answers to them. A figure
    that is no number is left out.
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
    for name, suite in (("retention", evidence.retention), ("golden", evidence.golden)):
        if suite.rows:
            found[f"{name}.candidate"] = mean(suite.candidate)
            found[f"{name}.{reference}"] = mean(suite.reference)
            found[f"{name}.rows"] = float(suite.rows)
    if evidence.together.rows:
        found["flips.rows"] = float(evidence.together.flips)
        found["flips.of"] = float(evidence.together.rows)
    if evidence.divergence is not None:
        found["divergence.candidate"] = evidence.divergence
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
    judged, small = _slices(evaluation, policy)
    return {
        **refusal_report(plan.task.name, plan.adapter_id, verdict, lineage),
        "metric": plan.task.metric,
        "champion": plan.champion,
        "reference": evaluation.evidence.reference,
        "scores": scores(evaluation, champion=plan.champion is not None),
        "base_rows": sum("base" in each.scores for each in evaluation.current),
        "left_out": evaluation.left_out,
        "stale": [
            {"suite": suite, "right": right, "rows": rows}
            for suite, answers in plan.stale.items()
            for right, rows in answers.items()
        ],
        "tries": plan.tries,
        "level": level_of_try(policy.chance, plan.tries),
        "flips": _flips(evaluation),
        "slices": judged,
        "small_slices": small,
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
    told: dict[str, Any] = {
        "task": arguments["task"],
        "adapter_id": arguments["adapter_id"],
        **{name: result.get(name) for name in ("scores", "report_uri", "tries", "level")},
    }
    if not result["accepted"]:
        return Output(event=AdapterRejected(reasons=tuple(result["reasons"]), **told))
    return Output(event=AdapterValidated(fingerprint=result.get("fingerprint"), **told))


def rejection(task: str, adapter_id: str, reasons: tuple[str, ...]) -> Output:
    """Returns the event that rejects an adapter that was not evaluated."""
    return Output(event=AdapterRejected(task=task, adapter_id=adapter_id, reasons=reasons))


def _confusion(rows: Sequence[EvaluatedRow], labels: Sequence[str], arm: str) -> list[JsonObject]:
    """Counts each pair of a right answer and a given answer, most frequent first."""
    known = {comparable(label): label for label in labels}
    counts = Counter(
        (known.get(comparable(each.row.output), OTHER), known.get(comparable(each.answers[arm]), OTHER))
        for each in rows
    )
    return [{"right": right, "said": said, "rows": count} for (right, said), count in counts.most_common()]


def _flips(evaluation: Evaluation) -> JsonObject:
    """Lists rows that turned from right to wrong: those of the golden set first, then the held-out ones."""
    order = ("golden", "held out", "retention")
    flips = sorted(evaluation.flips, key=lambda each: (order.index(each[0]), each[1].row.sampling_key))
    return {
        "rows": len(flips),
        "of": evaluation.evidence.together.rows,
        "listed": [_example(suite, each) for suite, each in flips[:FLIPS]],
    }


def _slices(evaluation: Evaluation, policy: ValidatorPolicy) -> tuple[list[JsonObject], list[JsonObject]]:
    """Returns the slices that are judged, with the score of each arm, and those that are too small."""
    evidence = evaluation.evidence
    found = [each for each in evidence.slices if each.is_judged]
    judged: list[JsonObject] = []
    for each in found:
        scores = evidence.together.at(each.places)
        judged.append(
            {
                "kind": each.kind,
                "name": each.name,
                "rows": scores.rows,
                "candidate": mean(scores.candidate),
                "reference": mean(scores.reference),
                "drop": -scores.gain,
                "passed": not slice_fails(scores, len(found), policy),
            }
        )
    small: list[JsonObject] = [
        {"kind": each.kind, "name": each.name, "rows": len(each.places)}
        for each in evidence.slices
        if not each.is_judged
    ]
    return judged, small


def _examples(evaluation: Evaluation, *, better: bool) -> list[JsonObject]:
    """Returns the rows whose scores changed most."""
    sign = 1 if better else -1
    changes = [
        (sign * (each.scores["candidate"] - each.scores["reference"]), suite, each) for suite, each in evaluation.judged
    ]
    changes = sorted((each for each in changes if each[0] > 0), key=lambda each: (-each[0], each[2].row.sampling_key))
    return [_example(suite, each) for _, suite, each in changes[:EXAMPLES]]


def _example(suite: str, each: EvaluatedRow) -> JsonObject:
    return {
        "suite": suite,
        "row_id": each.row.row_id,
        "input": each.row.input,
        "right": each.row.output,
        "candidate": each.answers["candidate"],
        "reference": each.answers["reference"],
    }
