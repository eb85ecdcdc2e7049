"""Runs an embedding model on OpenVINO, without torch, which takes a third of the time for a short text on a CPU.

The weights keep single precision, so that vectors agree with torch's and both can use the same index. A model is
exported once, from its tokens to its vector, by a process of its own (``openvino_export``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from schemas.errors import EverlearnError, first_line

if TYPE_CHECKING:
    from openvino import CompiledModel

GRAPH = "embedding.xml"
TOKENIZER = "tokenizer.json"
DESCRIPTION = "embedding.json"
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""The inputs that an exported model may have, and the attributes of the tokenizer's encodings that hold them."""
_EXPORTER = 2
"""Increase it when the export changes, so that older files are exported again."""
_EXPORT_SECONDS = 600.0
_REFUSED_SECONDS = 86_400.0
"""How long a model that failed to export is not tried again."""


class NotExported(EverlearnError):
    """A model cannot run on OpenVINO; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is kept of an exported model beside its graph and its tokenizer."""

    dimension: int
    longest: int
    """In tokens, special ones counted; longer texts are cut."""
    prefix: str
    """Put before each text: the model's default prompt."""
    padding: dict[str, Any]
    """How its tokenizer pads a batch: the arguments of ``Tokenizer.enable_padding``."""

    def write(self, folder: Path) -> None:
        (folder / DESCRIPTION).write_text(json.dumps(asdict(self)), encoding="utf-8")


class OpenVinoEmbedding:
    """An exported model; call ``encode`` from one thread at a time."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Loads the model. Raises OSError, ValueError or RuntimeError for files that are missing or damaged."""
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
        """Embeds one batch of texts; returns unit-length embeddings, shape (texts, dimension)."""
        found = self._padded.encode_batch_fast([self._prefix + text for text in texts])
        return self.run({name: np.array([getattr(each, INPUTS[name]) for each in found]) for name in self._inputs})

    def run(self, values: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Embeds a batch that is tokenized already; each value has the shape (texts, tokens)."""
        vectors: NDArray[np.float32] = np.array(self._request.infer({name: values[name] for name in self._inputs})[0])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


def export_in_child(
    source: Path, folder: Path, *, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
) -> None:
    """Exports a model in a process of its own, so that torch's memory is freed when it ends. Raises NotExported."""
    refused = refusal(folder)
    if refused.is_file() and 0 <= time.time() - refused.stat().st_mtime < _REFUSED_SECONDS:
        raise NotExported(refused.read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "infra.embedding.openvino_export", str(source), str(folder)]
    done = run(command, capture_output=True, text=True, check=False, timeout=_EXPORT_SECONDS)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise NotExported(lines[-1] if lines else f"the export of {source.name} ended with {done.returncode}")


def load_exported(
    source: Path, kept: Path, threads: int | None, export: Callable[[Path, Path], None] = export_in_child
) -> OpenVinoEmbedding:
    """Loads a model on OpenVINO; exports it first if that was not done. Raises NotExported.

    ``source``: the folder of the model's files. ``kept``: the folder of exported models; an export takes seconds.
    """
    folder = _exported_folder(source, kept)
    with _one_at_a_time(source, kept):
        if (loaded := _loaded_if_whole(folder, threads)) is not None:
            return loaded
        export(source, folder)
        return OpenVinoEmbedding(folder, threads)


def export_ahead(source: Path, kept: Path, export: Callable[[Path, Path], None] = export_in_child) -> None:
    """Exports the model if that was not done, so that no worker waits for it. Raises NotExported."""
    folder = _exported_folder(source, kept)
    with _one_at_a_time(source, kept):
        if not folder.is_dir():
            export(source, folder)


def import_openvino() -> ModuleType:
    """Imports OpenVINO, with its telemetry blocked. Raises NotExported where it is not installed."""
    # Importing OpenVINO sends usage data through this package, and Everlearn must send nothing about its users. Without
    # the package OpenVINO works and sends nothing; its own way to opt out is a command that each user must run.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino as library
    except ImportError as error:
        raise NotExported(f"openvino is not installed: {error}") from error
    imported: ModuleType = library
    return imported


def _compiled(path: Path, threads: int | None) -> CompiledModel:
    # Single precision also where the processor has a faster one: an index holds the vectors of many machines.
    wanted: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
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
    except Exception:  # noqa: BLE001  # damaged files, for which each library raises errors of its own
        return None


def refusal(folder: Path) -> Path:
    """Returns the file that says why an export to a folder failed; it saves other workers the attempt."""
    return folder.with_name(f"{folder.name}.refused")


@contextmanager
def _one_at_a_time(source: Path, kept: Path) -> Iterator[None]:
    """Lets one process at a time look and export; raises NotExported, in one line, for whatever goes wrong."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(kept / ".lock"):
            yield
    except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        raise NotExported(f"OpenVINO does not run {source.name}: {first_line(error)}") from error


def _exported_folder(source: Path, kept: Path) -> Path:
    """Returns the folder of the exported model. Its name depends on the model's files and on what exports them."""
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
