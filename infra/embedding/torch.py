"""Loads sentence-transformers models, the one place that does, and runs embedding models on torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.models.loading import load_failures_as_missing
from infra.models.threads import in_compute_thread
from schemas.errors import ModelMissing

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from tokenizers import Tokenizer

_DESCRIPTIONS = ("modules.json", "config.json")
_M = TypeVar("_M")


class TorchEmbedding:
    """A sentence-transformers model; call ``encode`` from one thread at a time."""

    def __init__(
        self, folder: Path, threads: int | None = None, load: Callable[[Path], SentenceTransformer] | None = None
    ) -> None:
        """Loads the model, which takes about ten seconds because of its imports. Raises ModelMissing.

        ``load``: ``load_model`` unless another function is given.
        """
        self._model = in_compute_thread(load or load_model)(folder)
        if threads is not None:
            import torch

            in_compute_thread(torch.set_num_threads)(threads)
        dimension, longest = self._model.get_embedding_dimension(), self._model.max_seq_length
        if not dimension or not longest:
            raise ModelMissing(
                f"[embedding] model: {folder} does not say how long its texts and vectors are; "
                "write max_seq_length into its sentence_bert_config.json, or give another model"
            )
        self.dimension, self.longest = int(dimension), int(longest)
        self.tokenizer = plain_tokenizer(self._model)

    @in_compute_thread
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds one batch of texts; returns unit-length embeddings, shape (texts, dimension)."""
        return encode(self._model, texts)


def encode(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeds one batch of texts; returns unit-length embeddings, shape (texts, dimension)."""
    found: NDArray[np.float32] = model.encode(
        list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
    )
    return found


def plain_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """Copies the model's tokenizer without truncation and padding; every use changes the model's own."""
    from tokenizers import Tokenizer

    tokenizer: Tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_model(folder: Path) -> SentenceTransformer:
    """Loads an embedding model from a folder. Raises ModelMissing, at once where the folder holds no model."""

    def message(reason: str) -> str:
        return (
            f"[embedding] model: {folder} does not load as an embedding model ({reason}); "
            "give a sentence-transformers model"
        )

    if not any((folder / name).is_file() for name in _DESCRIPTIONS):
        raise ModelMissing(message(f"it holds no {' or '.join(_DESCRIPTIONS)}"))
    from sentence_transformers import SentenceTransformer

    return _load(SentenceTransformer, folder, message)


def load_cross_encoder(folder: Path, setting: str) -> CrossEncoder:
    """Loads a cross-encoder from a folder. Raises ModelMissing, which names the ``setting``."""
    from sentence_transformers import CrossEncoder

    return _load(  # type: ignore[no-any-return]  # the library returns Any
        CrossEncoder, folder, lambda reason: f"{setting}: {folder} does not load as a cross-encoder ({reason})"
    )


def _load(kind: Callable[..., _M], folder: Path, message: Callable[[str], str]) -> _M:
    from transformers import logging

    # The shipped checkpoint holds a buffer that newer code computes itself; a report of it would puzzle users.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with load_failures_as_missing(message):
            return kind(
                str(folder), local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
    finally:
        logging.set_verbosity(verbosity)
