"""Exports an embedding model to OpenVINO: ``python -m infra.embedding.openvino_export MODEL_FOLDER FOLDER``.

The folder appears only after its vectors were found to agree with torch's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infra.embedding.openvino import (
    GRAPH,
    INPUTS,
    TOKENIZER,
    Description,
    NotExported,
    OpenVinoEmbedding,
    import_openvino,
    refusal,
)
from infra.embedding.torch import encode, load_model, plain_tokenizer
from schemas.errors import ModelMissing, first_line

if TYPE_CHECKING:
    import openvino
    from sentence_transformers import SentenceTransformer

AGREEMENT = 0.9999
"""The least cosine between OpenVINO's vector of a text and torch's."""
_LONGEST_BATCH = 4096
_SAMPLES = (
    "boat",
    "How do I get a refund for a parcel that never came? " * 4,
    "日本語 ok " * 30,
    " \tWhere IS my Straße, Ångström & Co.?\n\n",
    "a text that is cut, because it has more words than the model reads " * 400,
    "",
)


def export(
    model: SentenceTransformer,
    name: str,
    folder: Path,
    load: Callable[[Path], OpenVinoEmbedding] = OpenVinoEmbedding,
) -> None:
    """Exports a model, whole or not at all. Raises NotExported where its vectors differ from torch's."""
    expected = encode(model, _SAMPLES)
    converted = _converted(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as beside:
        unfinished = Path(beside) / "model"
        unfinished.mkdir()
        import_openvino().save_model(converted, str(unfinished / GRAPH), compress_to_fp16=False)
        plain_tokenizer(model).save(str(unfinished / TOKENIZER))
        _description(model).write(unfinished)
        exported = load(unfinished)
        alone = np.concatenate([exported.encode([text]) for text in _SAMPLES])
        agreement = float(min(np.min(np.sum(each * expected, axis=1)) for each in (exported.encode(_SAMPLES), alone)))
        if not agreement >= AGREEMENT:
            raise NotExported(f"OpenVINO's vectors of {name} are not torch's: a cosine of {agreement:.4f}")
        os.replace(unfinished, folder)


def main(source: Path, folder: Path, export: Callable[[SentenceTransformer, str, Path], None] = export) -> None:
    """Exports a model, or ends the process with one line on stderr that says why it cannot."""
    try:
        export(load_model(source), source.name, folder)
    except ModelMissing as error:
        sys.exit(str(error))
    except Exception as error:  # noqa: BLE001  # the exporter and the compiler raise errors of all kinds
        reason = first_line(error)
        if not isinstance(error, NotExported):
            reason = f"OpenVINO does not run {source.name}: {reason}"
        if not isinstance(
            error, OSError | MemoryError
        ):  # such an error is the machine's, and may be gone the next time
            refusal(folder).write_text(reason, encoding="utf-8")
        sys.exit(reason)


def _description(model: SentenceTransformer) -> Description:
    tokenizer, prompt = model.tokenizer, model.default_prompt_name
    dimension, longest = model.get_embedding_dimension(), model.max_seq_length
    if not dimension or not longest:
        raise NotExported("its files do not say how long its texts and vectors are")
    return Description(
        dimension=int(dimension),
        longest=int(longest),
        prefix=(model.prompts.get(prompt) if prompt else None) or "",
        padding={
            "direction": tokenizer.padding_side,
            "pad_id": tokenizer.pad_token_id,
            "pad_type_id": tokenizer.pad_token_type_id,
            "pad_token": tokenizer.pad_token,
        },
    )


def _converted(model: SentenceTransformer) -> openvino.Model:
    import torch

    transformer, *others = model
    found = transformer.preprocess(["a text", "two"])  # type: ignore[operator]  # torch types a module's attributes as tensors
    example = {name: value for name, value in found.items() if torch.is_tensor(value)}
    if unknown := example.keys() - INPUTS.keys():
        raise NotExported(f"its model reads {', '.join(sorted(unknown))}, which OpenVINO is not given here")

    class TokensToVector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = transformer.model
            self.others = torch.nn.ModuleList(others)

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            features = dict(zip(example, values, strict=True))
            features["token_embeddings"] = self.encoder(**features, return_dict=True)[0]  # type: ignore[operator]  # torch types a module's attributes as tensors
            for module in self.others:
                features = module(features)
            vectors: torch.Tensor = features["sentence_embedding"]
            return vectors

    texts, tokens = torch.export.Dim("texts", max=_LONGEST_BATCH), torch.export.Dim("tokens", max=model.max_seq_length)
    shapes = ({0: texts, 1: tokens},) * len(example)
    with torch.no_grad():
        exported = torch.export.export(TokensToVector().eval(), tuple(example.values()), dynamic_shapes=(shapes,))
    converted = import_openvino().convert_model(exported)
    for at, name in enumerate(example):
        converted.inputs[at].get_tensor().set_names({name})
    return converted


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
