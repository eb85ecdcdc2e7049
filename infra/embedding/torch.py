"""Runs an embedding model on torch, by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infra.models.threads import in_one_thread, torch_team
from infra.uncollected import uncollected
from schemas.errors import ModelMissing, first_line

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DESCRIPTIONS = ("modules.json", "config.json")


class TorchEmbedding:
    """A sentence-transformers model; ``encode`` is for one thread at a time."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Raises ModelMissing. It takes ten seconds, for what it imports."""
        self._model = in_one_thread(load_model)(folder)
        if threads is not None:
            import torch

            in_one_thread(torch.set_num_threads)(threads)
        dimension, longest = self._model.get_embedding_dimension(), self._model.max_seq_length
        if not dimension or not longest:
            raise ModelMissing(
                f"[embedding] model: {folder} does not say how long its texts and vectors are; "
                "write max_seq_length into its sentence_bert_config.json, or give another model"
            )
        self.dimension, self.longest = int(dimension), int(longest)
        self.tokenizer = plain_tokenizer(self._model)
        self._team = torch_team(self._model.device.type)

    @in_one_thread
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One batch of texts; unit-length embeddings, shape (texts, dimension)."""
        with self._team.at_work():
            return encode(self._model, texts)


def encode(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit-length embeddings of one batch, shape (texts, dimension)."""
    found: NDArray[np.float32] = model.encode(
        list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
    )
    return found


def plain_tokenizer(model: SentenceTransformer) -> Any:
    """A copy of the model's tokenizer that neither cuts nor pads; the model's own is changed by every use."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_model(folder: Path) -> SentenceTransformer:
    """The SentenceTransformer in a folder. Raises ModelMissing, at once where the folder holds no model."""
    if not any((folder / name).is_file() for name in _DESCRIPTIONS):
        raise _missing(folder, f"it holds no {' or '.join(_DESCRIPTIONS)}")
    from infra.lean_imports import transformers

    logging = transformers.logging
    with uncollected():
        from sentence_transformers import SentenceTransformer  # which imports it too

    # The shipped checkpoint holds a buffer that newer code computes itself; a report of it would puzzle users.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder), local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _missing(folder, first_line(error)) from error
    finally:
        logging.set_verbosity(verbosity)


def _missing(folder: Path, why: str) -> ModelMissing:
    return ModelMissing(
        f"[embedding] model: {folder} does not load as an embedding model ({why}); give a sentence-transformers model"
    )
