"""Lets each row of one batch have its own temperature, seed and length, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infra.lean_imports import transformers
from infra.models.threads import Team
from schemas.generation import GenerationRequest


class RowSampler(transformers.LogitsProcessor):
    """Adds Gumbel noise to the rows that have a temperature, so that the greatest score is a sample of softmax.

    A row's noise comes from its own seed, so its text does not depend on the batch (Gumbel-max trick, Maddison 2014).
    """

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        self._rows = [
            (row, request.temperature, torch.Generator().manual_seed(request.seed))
            for row, request in enumerate(requests)
            if request.temperature > 0
        ]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, temperature, generator in self._rows:
            noise = torch.empty(scores.shape[-1]).exponential_(generator=generator).log_().neg_()
            scores[row] = scores[row] / temperature + noise.to(scores.device)
        return scores


class RowLengths(transformers.StoppingCriteria):
    """Ends each row at its own limit; the batch ends with its last row."""

    def __init__(self, requests: Sequence[GenerationRequest], prompt_length: int, device: torch.device) -> None:
        self._limits = torch.tensor([request.max_tokens for request in requests], device=device) + prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        return input_ids.shape[-1] >= self._limits


class Pace(transformers.StoppingCriteria):
    """Ends nothing; lets the threads step back, or come again, between two tokens."""

    def __init__(self, team: Team) -> None:
        self._team = team

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        self._team.adjust()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
