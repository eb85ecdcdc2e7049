"""Reranks search hits with a cross-encoder, which reads question and chunk together.

It is slower than comparing vectors, and a better judge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.embedding.torch import load_cross_encoder
from infra.models.hub import local_folder
from infra.models.threads import in_compute_thread
from schemas.retrieval import Hit, headings_above

_SETTING = "[retrieval] cross_encoder"


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder in this process."""

    def __init__(self, name: str) -> None:
        """Loads the model. ``name``: of the model on the hub, or the path of its folder. Raises ModelMissing."""
        self._model = in_compute_thread(load_cross_encoder)(local_folder(name, _SETTING), _SETTING)

    def order(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        """Returns the hits, most relevant first; ties stay in their order."""
        if not hits:
            return []
        pairs = [
            (text, "\n".join([*headings_above(hit.chunk.title, hit.chunk.heading), hit.chunk.text])) for hit in hits
        ]
        scores = self._scores(pairs)
        order = sorted(range(len(hits)), key=lambda place: -float(scores[place]))
        return [hits[place] for place in order]

    @in_compute_thread
    def _scores(self, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._model.predict(pairs, show_progress_bar=False)
        return np.nan_to_num(scores, nan=-np.inf)  # what is no number sorts last, not anywhere
