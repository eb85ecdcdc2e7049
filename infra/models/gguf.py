"""Converts a GGUF file to a model folder in Hugging Face's layout, without torch.

The shipped base model comes as GGUF, and training and PEFT need safetensors. The folder holds float32 weights, the
configuration, and a tokenizer that is built from the file's own vocabulary: the one that transformers reads from a
GGUF has the wrong end token, no padding token, the decoder of another tokenizer, and does not split digits.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infra.progress import Progress
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from gguf import GGUFReader

RECEIPT = "everlearn.json"
"""Written last. It names the source and every file's size, so that a damaged folder is never taken for a model."""
_CONVERTER = 1
"""Increase it when the conversion changes, so that older folders are converted again."""
_CONTROL = 3
"""GGUF's token type of special tokens."""

_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def is_converted(source: Path, folder: Path) -> bool:
    """Says whether the folder is a complete conversion of this source by this converter."""
    try:
        receipt = json.loads((folder / RECEIPT).read_text())
        sizes = {name: (folder / name).stat().st_size for name in receipt["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(receipt == _receipt(source, sizes))


def convert(source: Path, folder: Path, progress: Progress) -> None:
    """Converts a GGUF file to a folder, whole or not at all. The caller holds a lock on the folder.

    Raises ConfigurationError when the folder cannot be written or the file is not a llama-shaped GGUF.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            unfinished = Path(name) / folder.name
            unfinished.mkdir()
            _write(source, unfinished, progress)
            sizes = {each.name: each.stat().st_size for each in sorted(unfinished.iterdir())}
            (unfinished / RECEIPT).write_text(json.dumps(_receipt(source, sizes), indent=1))
            if folder.exists():
                shutil.move(folder, Path(name) / "replaced")
            os.replace(unfinished, folder)
    except OSError as error:
        raise ConfigurationError(
            f"the model cannot be written to {folder}: {error.strerror or error}; "
            "free space there, or set [model] folder to another place"
        ) from error
    progress(1.0, "the base model is ready")


def _receipt(source: Path, sizes: dict[str, int]) -> dict[str, Any]:
    return {"converter": _CONVERTER, "source": source.name, "source_size": source.stat().st_size, "files": sizes}


def _write(source: Path, folder: Path, progress: Progress) -> None:
    from gguf import GGUFReader

    progress(0.0, "reading the base model")
    reader = GGUFReader(source)
    architecture = _value(reader, "general.architecture")
    if architecture != "llama":
        raise ConfigurationError(f"{source.name} holds a {architecture} model: only llama-shaped GGUF files convert")
    config = _config(reader)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=1))
    _write_weights(reader, config, folder / "model.safetensors", progress)
    progress(0.8, "correcting the tokenizer")
    _write_tokenizer(reader, folder)


def _value(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise ConfigurationError(f"the GGUF file has no {name}: install the package that ships it again")
    return field.contents()


def _config(reader: GGUFReader) -> dict[str, Any]:
    """Builds transformers' configuration of a llama model from the file's fields."""
    heads = _value(reader, "llama.attention.head_count")
    width = _value(reader, "llama.embedding_length")
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(tokens),
        "hidden_size": width,
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv"),
        "head_dim": width // heads,
        "max_position_embeddings": _value(reader, "llama.context_length"),
        "rms_norm_eps": float(_value(reader, "llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(_value(reader, "llama.rope.freq_base"))},
        "hidden_act": "silu",
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        # The file names the end token for padding too; a training would then never teach the model to stop.
        "pad_token_id": _value(reader, "tokenizer.ggml.unknown_token_id"),
    }


def _write_weights(reader: GGUFReader, config: dict[str, Any], path: Path, progress: Progress) -> None:
    from gguf.quants import dequantize
    from safetensors.numpy import save_file

    weights: dict[str, NDArray[np.float32]] = {}
    for number, tensor in enumerate(reader.tensors):
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if ".attn_q." in tensor.name:
            values = _rotary_halves(values, config["num_attention_heads"])
        elif ".attn_k." in tensor.name:
            values = _rotary_halves(values, config["num_key_value_heads"])
        weights[_weight_name(tensor.name)] = np.ascontiguousarray(values)
        progress(0.05 + 0.6 * (number + 1) / len(reader.tensors), "converting the base model")
    progress(0.65, "writing the base model")
    save_file(weights, path, metadata={"format": "pt"})
    # safetensors makes the file private, but users may share a models folder.
    path.chmod(0o644)


def _weight_name(name: str) -> str:
    """Translates a tensor's name: ``blk.3.attn_q.weight`` to ``model.layers.3.self_attn.q_proj.weight``."""
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) == 4 and parts[2] in _LAYER:
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"
    if parts[0] in _OUTER and len(parts) == 2:
        return f"{_OUTER[parts[0]]}.{parts[1]}"
    raise ConfigurationError(f"the GGUF file holds a tensor {name} that a llama model does not have")


def _rotary_halves(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorders rows for rotary embedding: GGUF interleaves its two halves, transformers keeps one after the other."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(reader: GGUFReader, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in _value(reader, "tokenizer.ggml.merges")]
    special = [
        token
        for token, kind in zip(tokens, _value(reader, "tokenizer.ggml.token_type"), strict=True)
        if kind == _CONTROL
    ]
    backend = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    # The model was trained with every digit as a token of its own, and GPT-2's splitting for the rest.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[_value(reader, "tokenizer.ggml.bos_token_id")],
        eos_token=tokens[_value(reader, "tokenizer.ggml.eos_token_id")],
        unk_token=tokens[_value(reader, "tokenizer.ggml.unknown_token_id")],
        pad_token=tokens[_value(reader, "tokenizer.ggml.unknown_token_id")],
        clean_up_tokenization_spaces=False,
        model_max_length=_value(reader, "llama.context_length"),
        padding_side="left",
    )
    tokenizer.chat_template = _value(reader, "tokenizer.chat_template")
    tokenizer.save_pretrained(folder)
