"""The in-memory twin of the embedding model: texts that share words are similar."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(r"\w+|[^\w\s]")


class MemoryEmbedder:
    """Embeds a text as the normalized sum of its words' hashed directions."""

    def __init__(self, *, model: str = "memory", dimension: int = 64, max_tokens: int = 254) -> None:
        self._model, self._dimension, self._max_tokens = model, dimension, max_tokens

    @property
    def model(self) -> str:
        return self._model

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            # An empty text is a word too, so that every vector has a direction.
            for word in _TOKEN.findall(text.lower())[: self._max_tokens] or [""]:
                vectors[row] += _direction(word, self._dimension)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _TOKEN.finditer(text)]


@lru_cache(10_000)
def _direction(word: str, dimension: int) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
