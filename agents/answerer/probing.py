"""Decides whether a loaded adapter is the one that was validated, by what it says to the validator's probes."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.generation import GenerationRequest
from schemas.registry import Probe

SHARE_ELSEWHERE = 0.5
"""The part of the probes that must be answered alike on another engine or precision, which rounds otherwise."""


def requests_of(probes: Sequence[Probe], adapter_id: str) -> list[GenerationRequest]:
    """The probes as an engine is asked them: greedily, and as briefly as the validator did."""
    return [
        GenerationRequest(messages=probe.messages, adapter_id=adapter_id, max_tokens=probe.max_tokens)
        for probe in probes
    ]


def objection(
    adapter_id: str, probes: Sequence[Probe], answers: Sequence[str], *, engine: str, unprobed: bool
) -> str | None:
    """Why an adapter is not to be served, in one line; None when it is.

    On the engine and precision that made the probes every answer must be the same to the character; on another one,
    half of them. An adapter without probes was never validated, and is served only where ``unprobed`` allows it.
    """
    if not probes:
        if unprobed:
            return None
        return (
            f"{adapter_id} was never validated, for no probes lie beside it: have it validated, or set [answerer] "
            "unprobed = true to serve adapters that were installed by hand"
        )
    alike = sum(answer == probe.output for probe, answer in zip(probes, answers, strict=True))
    needed = len(probes) if all(probe.engine == engine for probe in probes) else SHARE_ELSEWHERE * len(probes)
    if alike >= needed:
        return None
    odd = next(
        place for place, (probe, answer) in enumerate(zip(probes, answers, strict=True)) if answer != probe.output
    )
    return (
        f"{adapter_id} does not answer as it did when it was validated, {len(probes) - alike} of {len(probes)} probes "
        f"differ, such as {answers[odd]!r:.60} for {probes[odd].output!r:.60}: train it again, or roll back"
    )
