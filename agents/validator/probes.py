"""Makes probes: a few prompts whose answers show an answerer that it serves the right adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agents.validator.evaluation import EvaluatedRow
from agents.validator.ports import EvaluationEngine
from schemas.registry import Probe

PROBES = 4
PROBE_TOKENS = 16


def choose(rows: Sequence[EvaluatedRow], most: int = PROBES) -> list[EvaluatedRow]:
    """Chooses rows: first those that the reference answers differently, then those with another answer than the chosen
    ones, then the shortest."""
    left = sorted(rows, key=lambda each: (len(each.request.messages[-1].content), each.row.sampling_key))
    chosen: list[EvaluatedRow] = []
    while left and len(chosen) < most:
        chosen_answers = {each.answers["candidate"] for each in chosen}
        best = min(
            left,
            key=lambda each: (
                each.answers["candidate"] == each.answers["reference"],
                each.answers["candidate"] in chosen_answers,
            ),
        )
        left.remove(best)
        chosen.append(best)
    return chosen


def make_probes(rows: Sequence[EvaluatedRow], adapter_id: str, engine: EvaluationEngine) -> tuple[Probe, ...]:
    """Returns prompts with the adapter's greedy answers.

    An answer that changes with the size of the batch is no probe, because an answerer would get another one.
    """
    requests = [
        replace(each.request, adapter_id=adapter_id, max_tokens=min(each.request.max_tokens, PROBE_TOKENS))
        for each in choose(rows)
    ]
    together = engine.generate(requests)
    alone = [engine.generate([request])[0] for request in requests]
    return tuple(
        Probe(
            messages=request.messages,
            output=one.text,
            max_tokens=request.max_tokens,
            engine=engine.signature,
        )
        for request, one, other in zip(requests, alone, together, strict=True)
        if one.text == other.text
    )
