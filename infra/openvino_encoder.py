"""Runs an embedding model's encoder on OpenVINO, which answers a short text in a third of torch's time on a processor.

The weights stay the model's own, in single precision: vectors agree with torch's, so that an index serves both.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from agents.errors import EverlearnError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENCODER = "encoder.xml"
_EXPORTER = 1
"""Raised when the export changes, so that older files are made anew."""
_EXPORT_SECONDS = 600.0


class NotExported(EverlearnError):
    """The encoder cannot run on OpenVINO, and why."""


def run_on_openvino(model: SentenceTransformer, source: Path, kept: Path, threads: int | None) -> None:
    """Has the model's encoder run on OpenVINO from now on; what is around it, such as its pooling, stays as it was.

    ``source``: the folder of the model's files. ``kept``: where exported encoders are kept; one takes seconds to make.
    Raises NotExported, and then the model is unchanged.
    """
    path = _place(source, kept)
    with _alone(source, kept):
        compiled = _compiled_if_whole(path, threads)
        if compiled is None:
            _export(source, path)
            compiled = compile_encoder(path, threads)
    use(model, compiled)
    for parameter in model[0].model.parameters():
        parameter.data = parameter.data.new_empty(0)  # nobody reads them any more


def export_ahead(source: Path, kept: Path) -> None:
    """Exports the encoder where that was not done, so that no worker waits for it. Raises NotExported."""
    path = _place(source, kept)
    with _alone(source, kept):
        if not path.is_file():
            _export(source, path)


def import_openvino() -> Any:
    """The library. Raises NotExported where it is not installed."""
    # It reports its use to its makers when it is imported, unless this package is missing. Nothing here calls home.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise NotExported(f"openvino is not installed: {error}") from error
    return openvino


def compile_encoder(path: Path, threads: int | None = None) -> Any:
    """Raises RuntimeError for a file that is damaged."""
    # Single precision also where the processor has a faster one: an index holds the vectors of many machines.
    wanted: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        wanted["INFERENCE_NUM_THREADS"] = threads
    return import_openvino().Core().compile_model(str(path), "CPU", wanted)


def use(model: SentenceTransformer, compiled: Any) -> None:
    """Puts a compiled encoder in the place of the model's own."""
    model[0].model.forward = _Forward(compiled)


def first_line(error: Exception) -> str:
    """Of an exception of these libraries, which tell long stories."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line[:200]


class _Forward:
    """Takes the place of a torch encoder's forward pass. For one thread at a time."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._names = [each.any_name for each in compiled.inputs]

    def __call__(self, **features: Any) -> Any:
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        found = self._request.infer({name: features[name].numpy() for name in self._names})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found[0]))


def _compiled_if_whole(path: Path, threads: int | None) -> Any:
    if not path.is_file():
        return None
    try:
        return compile_encoder(path, threads)
    except RuntimeError:
        return None  # it is damaged: made anew


def _export(source: Path, path: Path) -> None:
    """In a process of its own: what exporting takes of memory would stay in this one for good."""
    shutil.rmtree(path.parent, ignore_errors=True)
    command = [sys.executable, "-m", "infra.openvino_export", str(source), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_EXPORT_SECONDS)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NotExported(said[-1] if said else f"the export of {source.name} ended with {done.returncode}")


@contextmanager
def _alone(source: Path, kept: Path) -> Iterator[None]:
    """One process at a time looks and exports; whatever goes wrong is NotExported, in one line."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(kept / ".lock"):
            yield
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        raise NotExported(f"OpenVINO does not run {source.name}: {first_line(error)}") from error


def _place(source: Path, kept: Path) -> Path:
    """Of the exported encoder, by the model's files and what exports them: one replaced under its name has another."""
    try:
        installed = version("openvino")
    except PackageNotFoundError as error:
        raise NotExported("openvino is not installed") from error
    return kept / f"{source.name}-{_fingerprint(source, installed)}" / ENCODER


def _fingerprint(source: Path, installed: str) -> str:
    digest = hashlib.sha256(f"{_EXPORTER} {installed}".encode())
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        digest.update(f"{path.relative_to(source)} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
