"""Runs an embedding model on OpenVINO, without torch: it answers a short text in a third of the time on a processor.

The weights stay the model's own, in single precision: vectors agree with torch's, so that an index serves both. A
model is exported once, whole from its tokens to its vector, by a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from schemas.errors import EverlearnError, first_line

GRAPH = "embedding.xml"
TOKENIZER = "tokenizer.json"
DESCRIPTION = "embedding.json"
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What an exported model may read, and how the tokenizer's encodings call it."""
_EXPORTER = 2
"""Raised when the export changes, so that older files are made anew."""
_EXPORT_SECONDS = 600.0
_REFUSED_SECONDS = 86_400.0
"""How long a model that does not export is not tried again."""


class NotExported(EverlearnError):
    """The model cannot run on OpenVINO, and why."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an exported model is, beside its graph and its tokenizer."""

    dimension: int
    longest: int
    """In tokens, special ones counted; what is longer is cut."""
    prefix: str
    """Put before each text: the model's default prompt."""
    padding: dict[str, Any]
    """How its tokenizer fills a batch up: ``Tokenizer.enable_padding``'s arguments."""

    def write(self, folder: Path) -> None:
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self)), encoding="utf-8")


class OpenVinoEmbedding:
    """An exported model; ``encode`` is for one thread at a time."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Raises OSError, ValueError or RuntimeError for files that are missing or damaged."""
        from tokenizers import Tokenizer

        described = Description(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
        self.dimension, self.longest = described.dimension, described.longest
        written = (folder / TOKENIZER).read_text(encoding="utf-8")
        self.tokenizer = Tokenizer.from_str(written)
        self._padded = Tokenizer.from_str(written)
        self._padded.enable_truncation(described.longest)
        self._padded.enable_padding(**described.padding)
        self._prefix = described.prefix
        self._request = _compiled(folder / GRAPH, threads).create_infer_request()
        self._inputs = [each.any_name for each in self._request.model_inputs]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One batch of texts; unit-length embeddings, shape (texts, dimension)."""
        found = self._padded.encode_batch_fast([self._prefix + text for text in texts])
        return self.run({name: np.array([getattr(each, INPUTS[name]) for each in found]) for name in self._inputs})

    def run(self, values: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """The same of what a tokenizer made of the texts, each value of shape (texts, tokens)."""
        vectors: NDArray[np.float32] = np.array(self._request.infer({name: values[name] for name in self._inputs})[0])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


def load_exported(source: Path, kept: Path, threads: int | None) -> OpenVinoEmbedding:
    """The model as OpenVINO runs it, exported first where that was not done. Raises NotExported.

    ``source``: the folder of the model's files. ``kept``: where exported models are kept; one takes seconds to make.
    """
    folder = _place(source, kept)
    with _alone(source, kept):
        if (loaded := _loaded_if_whole(folder, threads)) is not None:
            return loaded
        _export(source, folder)
        return OpenVinoEmbedding(folder, threads)


def export_ahead(source: Path, kept: Path) -> None:
    """Exports the model where that was not done, so that no worker waits for it. Raises NotExported."""
    folder = _place(source, kept)
    with _alone(source, kept):
        if not folder.is_dir():
            _export(source, folder)


def import_openvino() -> Any:
    """The library. Raises NotExported where it is not installed."""
    # It reports its use to its makers when it is imported, unless this package is missing. Nothing here calls home.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise NotExported(f"openvino is not installed: {error}") from error
    return openvino


def _compiled(path: Path, threads: int | None) -> Any:
    # Single precision also where the processor has a faster one: an index holds the vectors of many machines.
    wanted: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        wanted["INFERENCE_NUM_THREADS"] = threads
    return import_openvino().Core().compile_model(str(path), "CPU", wanted)


def _loaded_if_whole(folder: Path, threads: int | None) -> OpenVinoEmbedding | None:
    if not folder.is_dir():
        return None
    try:
        return OpenVinoEmbedding(folder, threads)
    except NotExported:
        raise
    except Exception:  # noqa: BLE001  # it is damaged, of which each library speaks in its own way: made anew
        return None


def _export(source: Path, folder: Path) -> None:
    """In a process of its own, which takes torch and its memory along when it ends."""
    refused = refusal(folder)
    if refused.is_file() and time.time() - refused.stat().st_mtime < _REFUSED_SECONDS:
        raise NotExported(refused.read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "infra.embedding.openvino_export", str(source), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_EXPORT_SECONDS)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NotExported(said[-1] if said else f"the export of {source.name} ended with {done.returncode}")


def refusal(folder: Path) -> Path:
    """The file that says why a model was not exported to a folder; it saves every worker the attempt."""
    return folder.with_name(f"{folder.name}.refused")


@contextmanager
def _alone(source: Path, kept: Path) -> Iterator[None]:
    """One process at a time looks and exports; whatever goes wrong is NotExported, in one line."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(kept / ".lock"):
            yield
    except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        raise NotExported(f"OpenVINO does not run {source.name}: {first_line(error)}") from error


def _place(source: Path, kept: Path) -> Path:
    """Of the exported model, by its files and by what exports them: one replaced under its name has another."""
    try:
        installed = version("openvino")
    except PackageNotFoundError as error:
        raise NotExported("openvino is not installed") from error
    return kept / f"{source.name}-{_fingerprint(source, installed)}"


def _fingerprint(source: Path, installed: str) -> str:
    digest = hashlib.sha256(f"{_EXPORTER} {installed}".encode())
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        digest.update(f"{path.relative_to(source)} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
