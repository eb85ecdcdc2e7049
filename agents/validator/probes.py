"""Chooses a few prompts by whose answers an answerer can tell that it serves this very adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agents.validator.evaluation import Asked
from agents.validator.ports import Engine
from schemas.registry import Probe

PROBES = 4
PROBE_TOKENS = 16


def choose(asked: Sequence[Asked], most: int = PROBES) -> list[Asked]:
    """Those first whose answers differ from the reference's, then those that add another answer, then the shortest."""
    left = sorted(asked, key=lambda each: (len(each.request.messages[-1].content), each.row.sampling_key))
    chosen: list[Asked] = []
    while left and len(chosen) < most:
        heard = {each.said["candidate"] for each in chosen}
        best = min(
            left,
            key=lambda each: (each.said["candidate"] == each.said["reference"], each.said["candidate"] in heard),
        )
        left.remove(best)
        chosen.append(best)
    return chosen


def make_probes(asked: Sequence[Asked], adapter_id: str, engine: Engine) -> tuple[Probe, ...]:
    """Prompts with the adapter's greedy answers: only such as it gives alone and in company alike."""
    requests = [
        replace(each.request, adapter_id=adapter_id, max_tokens=min(each.request.max_tokens, PROBE_TOKENS))
        for each in choose(asked)
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
