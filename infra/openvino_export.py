"""Exports an embedding model's encoder to OpenVINO: ``python -m infra.openvino_export MODEL_FOLDER ENCODER_FILE``.

The file appears only once its vectors were found to agree with torch's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from infra.openvino_encoder import NotExported, compile_encoder, first_line, import_openvino, use

AGREEMENT = 0.9999
"""The least cosine between OpenVINO's vector of a text and torch's."""
_LONGEST_BATCH = 4096
_SAMPLES = ("boat", "How do I get a refund for a parcel that never came? " * 4, "日本語 ok " * 30)


def main(source: Path, path: Path) -> None:
    """Ends the process with one line on stderr where it cannot be done."""
    from infra.embedder import load_model

    try:
        export(load_model(source), source.name, path)
    except NotExported as error:
        sys.exit(str(error))
    except Exception as error:  # noqa: BLE001  # the exporter and the compiler raise what they like
        sys.exit(f"OpenVINO does not run {source.name}: {first_line(error)}")


def export(model: Any, name: str, path: Path) -> None:
    """Writes the encoder, whole or not at all. Raises NotExported where its vectors are not torch's."""
    expected = model.encode(list(_SAMPLES), normalize_embeddings=True, show_progress_bar=False)
    converted = _converted(model)
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / "encoder"
        unfinished.mkdir()
        import_openvino().save_model(converted, str(unfinished / path.name), compress_to_fp16=False)
        use(model, compile_encoder(unfinished / path.name))
        found = model.encode(list(_SAMPLES), normalize_embeddings=True, show_progress_bar=False)
        agreement = float(np.min(np.sum(found * expected, axis=1)))
        if not agreement >= AGREEMENT:
            raise NotExported(f"OpenVINO's vectors of {name} are not torch's: a cosine of {agreement:.4f}")
        os.replace(unfinished, path.parent)


def _converted(model: Any) -> Any:
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
    converted = import_openvino().convert_model(exported)
    for at, name in enumerate(example):
        converted.inputs[at].get_tensor().set_names({name})
    return converted


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
