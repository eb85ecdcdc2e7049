"""Runs an embedding model's encoder on OpenVINO, which answers a short text in a third of torch's time on a processor.

The weights stay the model's own, in single precision: vectors agree with torch's, so that an index serves both.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from agents.errors import EverlearnError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_EXPORTER = 1
"""Raised when the export changes, so that older files are made anew."""
_LONGEST_BATCH = 4096
_AGREEMENT = 0.9999
"""The least cosine between OpenVINO's vector of a text and torch's."""
_SAMPLES = ("boat", "How do I get a refund for a parcel that never came? " * 4, "日本語 ok " * 30)


class NotExported(EverlearnError):
    """The encoder cannot run on OpenVINO, and why."""


def run_on_openvino(model: SentenceTransformer, source: Path, kept: Path, threads: int | None) -> None:
    """Has the model's encoder run on OpenVINO from now on; what is around it, such as its pooling, stays as it was.

    ``source``: the folder of the model's files. ``kept``: where exported encoders are kept; one takes seconds to make.
    Raises NotExported, and then the model is unchanged.
    """
    expected = _embed(model)
    try:
        encoder = _Encoder(_compiled(model, source, kept, threads))
    except NotExported:
        raise
    except Exception as error:  # the exporter and the compiler raise what they like
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise NotExported(f"OpenVINO does not run {source.name}: {reason[:200]}") from error
    torch_model = model[0].model
    own = torch_model.forward
    torch_model.forward = encoder
    agreement = float((_embed(model) * expected).sum(axis=1).min())
    if not agreement >= _AGREEMENT:
        torch_model.forward = own
        raise NotExported(f"OpenVINO's vectors of {source.name} are not torch's: a cosine of {agreement:.4f}")
    for parameter in torch_model.parameters():
        parameter.data = parameter.data.new_empty(0)  # nobody reads them any more


class _Encoder:
    """Takes the place of a torch encoder's forward pass. For one thread at a time."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._names = [each.any_name for each in compiled.inputs]

    def __call__(self, **features: Any) -> Any:
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        found = self._request.infer({name: features[name].numpy() for name in self._names})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found[0]))


def _compiled(model: SentenceTransformer, source: Path, kept: Path, threads: int | None) -> Any:
    openvino = _openvino()
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{source.name}-{_fingerprint(source, openvino.__version__)}" / "encoder.xml"
    # Single precision also where the processor has a faster one: an index holds the vectors of many machines.
    wanted: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        wanted["INFERENCE_NUM_THREADS"] = threads
    with FileLock(kept / ".lock"):
        if path.is_file():
            try:
                return openvino.Core().compile_model(str(path), "CPU", wanted)
            except RuntimeError:
                pass  # it is damaged: made anew
        shutil.rmtree(path.parent, ignore_errors=True)
        _export(openvino, model, path)
    return openvino.Core().compile_model(str(path), "CPU", wanted)


def _openvino() -> Any:
    # It reports its use to its makers when it is imported, unless this package is missing. Nothing here calls home.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise NotExported(f"openvino is not installed: {error}") from error
    return openvino


def _fingerprint(source: Path, version: str) -> str:
    """Of the model's files and of what exports them; a model replaced under its name has another."""
    digest = hashlib.sha256(f"{_EXPORTER} {version}".encode())
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        digest.update(f"{path.relative_to(source)} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _export(openvino: Any, model: SentenceTransformer, path: Path) -> None:
    """Writes the encoder, whole or not at all."""
    import torch

    transformer = model[0]
    example = {
        name: value for name, value in transformer.preprocess(["a text", "two"]).items() if torch.is_tensor(value)
    }

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = transformer.model

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.model(**dict(zip(example, values, strict=True)), return_dict=True)[0]
            return found

    texts, tokens = torch.export.Dim("texts", max=_LONGEST_BATCH), torch.export.Dim("tokens", max=model.max_seq_length)
    shapes = ({0: texts, 1: tokens},) * len(example)
    with torch.no_grad():
        exported = torch.export.export(Encoder().eval(), tuple(example.values()), dynamic_shapes=(shapes,))
    converted = openvino.convert_model(exported)
    for at, name in enumerate(example):
        converted.inputs[at].get_tensor().set_names({name})
    with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / "encoder"
        unfinished.mkdir()
        openvino.save_model(converted, str(unfinished / path.name), compress_to_fp16=False)
        os.replace(unfinished, path.parent)


def _embed(model: SentenceTransformer) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = model.encode(list(_SAMPLES), normalize_embeddings=True, show_progress_bar=False)
    return vectors
