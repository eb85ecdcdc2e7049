"""A model on OpenVINO gives torch's vectors, is exported once, and gives way to torch where it cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.embedding.embedder import OPENVINO, PACKAGED, SentenceTransformerEmbedder, model_folder, prepare
from infra.embedding.openvino import (
    NotExported,
    OpenVinoEmbedding,
    _exported_folder,
    export_ahead,
    export_in_child,
    load_exported,
    refusal,
)
from infra.embedding.openvino_export import export, main
from infra.embedding.torch import TorchEmbedding, encode, load_model
from infra.settings import Settings
from schemas.errors import ModelMissing
from schemas.policies import EmbeddingSettings, ModelSettings

TEXTS = [
    "a",
    "",
    "a longer text about boats",
    "word " * 300,
    "日本語 ok " * 40,
    " WHERE is my\tStraße?\n",
    *("boats " * n for n in range(1, 70)),
]


def embedder(home: Path, backend: str, model: str = PACKAGED) -> SentenceTransformerEmbedder:
    embedding = EmbeddingSettings.model_validate({"model": model, "backend": backend})
    return SentenceTransformerEmbedder(
        Settings(home=home, embedding=embedding, model=ModelSettings(folder=home / "models", threads=1))
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model_settings: Settings) -> Path:
    """A home with the shipped model as ``up`` exports it: by a process of its own, once a machine."""
    prepare(model_settings, lambda done, text: None)
    home = tmp_path_factory.mktemp("home")
    made = _exported_folder(model_folder(PACKAGED), model_settings.models_folder / OPENVINO)
    shutil.copytree(made, home / "models" / OPENVINO / made.name)
    return home


def exported(home: Path) -> list[Path]:
    return sorted((home / "models" / "openvino").glob("model-*/embedding.bin"))


def test_vectors_agree_with_torchs_whatever_the_length_and_the_company(home: Path) -> None:
    expected = embedder(home, "torch").embed(TEXTS)
    found = embedder(home, "openvino")
    np.testing.assert_allclose(found.embed(TEXTS), expected, atol=2e-6)
    np.testing.assert_allclose(np.concatenate([found.embed([text]) for text in TEXTS]), expected, atol=2e-6)
    assert (found.dimension, found.max_tokens) == (384, 254)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the shipped model's kind and tokenizer, of one layer of random weights: exported in a moment."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("small") / "mine"
    shutil.copytree(model_folder(PACKAGED), folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = transformers.BertConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=64, num_attention_heads=2)  # type: ignore[call-arg]  # a dataclass at run time only
    with torch.random.fork_rng():
        torch.manual_seed(7)
        transformers.BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


class CopyingExport:
    """Exports the shipped model by copying an earlier export, which takes no time. ``made``: the folders it wrote."""

    def __init__(self, exported: Path, folder: Path) -> None:
        self.made: list[Path] = []
        self._copy = folder / "copy"
        shutil.copytree(exported, self._copy)

    def __call__(self, source: Path, folder: Path) -> None:
        self.made.append(folder)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._copy, folder)


def test_a_model_is_exported_once_and_again_when_it_is_damaged(home: Path, tmp_path: Path) -> None:
    (file,) = exported(home)
    export_again = CopyingExport(file.parent, tmp_path)

    def vectors() -> NDArray[np.float32]:
        loaded = load_exported(model_folder(PACKAGED), home / "models" / OPENVINO, 1, export_again)
        return loaded.encode(TEXTS[:5])

    expected = vectors()
    assert export_again.made == []
    for damaged in ("embedding.xml", "tokenizer.json", "embedding.json"):
        (file.parent / damaged).write_text("<net")
        np.testing.assert_allclose(vectors(), expected, atol=2e-6)
        vectors()
    assert export_again.made == [file.parent] * 3


def test_what_is_prepared_ahead_is_what_a_worker_uses(home: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    settings = Settings(home=tmp_path, model=ModelSettings(folder=home / "models"))
    (file,) = exported(home)
    export_again = CopyingExport(file.parent, tmp_path)
    written = file.stat().st_ctime_ns
    prepare(settings, lambda done, text: steps.append(text))
    assert steps == ["preparing the embedding model", "the embedding model is ready"]
    assert file.stat().st_ctime_ns == written
    shutil.rmtree(file.parent)
    export_ahead(model_folder(PACKAGED), home / "models" / OPENVINO, export_again)
    assert export_again.made == [file.parent]
    written = file.stat().st_ctime_ns
    embedder(home, "openvino")
    assert file.stat().st_ctime_ns == written


def test_a_model_that_was_replaced_under_its_name_is_exported_anew(small_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made: list[Path] = []

    def export_here(source: Path, folder: Path) -> None:  # what a process of its own does, without its imports
        made.append(folder)
        export(load_model(source), source.name, folder)

    folder = tmp_path / "mine"
    shutil.copytree(small_model, folder)

    def vectors() -> NDArray[np.float32]:
        return load_exported(folder, tmp_path / "kept", 1, export_here).encode(TEXTS)

    before = vectors()
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"].roll(1, 0)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    after = vectors()
    np.testing.assert_allclose(after, embedder(tmp_path, "torch", str(folder)).embed(TEXTS), atol=2e-6)
    assert float(np.min(np.sum(before * after, axis=1))) < 0.99
    assert len(set(made)) == len(made) == 2


def test_torch_embeds_where_openvino_cannot(home: Path, tmp_path: Path) -> None:
    expected = embedder(tmp_path, "torch").embed(TEXTS[:5])
    assert not exported(tmp_path)
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "openvino").write_text("in the way")
    np.testing.assert_array_equal(embedder(tmp_path, "auto").embed(TEXTS[:5]), expected)
    with pytest.raises(ModelMissing, match=r"^\[embedding\] backend: OpenVINO does not run model: .* File exists"):
        embedder(tmp_path, "openvino")


def test_what_an_export_says_last_is_why_torch_embeds(tmp_path: Path) -> None:
    with pytest.raises(NotExported, match="does not load as an embedding model") as caught:
        export_in_child(tmp_path, tmp_path / "kept")
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_model_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from infra.embedding.torch import TorchEmbedding\n"
        "try: TorchEmbedding(Path(sys.argv[1]))\nexcept Exception as error: print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"[embedding] model: {tmp_path} does not load as an embedding model (it holds no modules.json or config.json); "
        "give a sentence-transformers model False"
    )


class RolledEmbedding(OpenVinoEmbedding):
    """Gives other vectors than the model: their numbers in another order."""

    def run(self, values: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        return np.roll(super().run(values), 1, axis=-1)


def test_an_export_whose_vectors_differ_from_torchs_is_not_kept(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(NotExported, match="OpenVINO's vectors of mine are not torch's: a cosine of"):
        export(load_model(small_model), "mine", tmp_path / "kept" / "mine-1", RolledEmbedding)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_model_that_does_not_export_is_not_tried_again_for_a_day(tmp_path: Path) -> None:
    kept = tmp_path / "mine-1"

    def fails_with(error: Exception) -> None:
        with pytest.raises(SystemExit) as caught:
            main(model_folder(PACKAGED), kept, Mock(side_effect=error))
        assert "\n" not in str(caught.value)

    fails_with(OSError("the disk is full"))
    assert not refusal(kept).exists()
    fails_with(RuntimeError("no such operation\nat all"))
    run = Mock(side_effect=TimeoutError)
    with pytest.raises(NotExported, match=r"^OpenVINO does not run model: no such operation$"):
        export_in_child(model_folder(PACKAGED), kept, run=run)
    assert not run.called
    os.utime(refusal(kept), (time.time() - 90_000,) * 2)
    with pytest.raises(TimeoutError):
        export_in_child(model_folder(PACKAGED), kept, run=run)


def test_a_model_that_does_not_say_how_long_its_texts_are_is_named_in_one_line(tmp_path: Path) -> None:
    model = load_model(model_folder(PACKAGED))
    model.max_seq_length = None
    with pytest.raises(ModelMissing, match="write max_seq_length into its"):
        TorchEmbedding(tmp_path, load=lambda folder: model)


def test_a_models_default_prompt_stands_before_each_text(small_model: Path, tmp_path: Path) -> None:
    model = load_model(small_model)
    model.prompts, model.default_prompt_name = {"query": "search for boats: "}, "query"
    export(model, "mine", tmp_path / "prompted")
    found = OpenVinoEmbedding(tmp_path / "prompted", 1).encode(TEXTS[:5])
    model.prompts, model.default_prompt_name = {}, None
    np.testing.assert_allclose(found, encode(model, [f"search for boats: {text}" for text in TEXTS[:5]]), atol=2e-6)
    assert not np.allclose(found, encode(model, TEXTS[:5]), atol=1e-3)


def test_torch_stays_away(home: Path) -> None:
    embedder(home, "openvino")  # so that it is exported
    code = (
        "import sys; from pathlib import Path; from tests.infra.embedding.test_openvino_embedding import embedder; "
        "embedder(Path(sys.argv[1]), 'auto').embed(['boats']); "
        "print(sorted({'torch', 'transformers', 'sentence_transformers', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['openvino']"


def test_nothing_reports_its_use_to_anybody() -> None:
    code = (
        "import sys; from infra.embedding.openvino import import_openvino; import_openvino(); "
        "import openvino.tools.ovc; "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry') and sys.modules[name]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
