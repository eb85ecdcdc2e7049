"""Finds the checkpoint that a training resumes from, and turns errors of a full disk into one clear message."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from infra.durable_files import replace_file
from schemas.errors import Unavailable, first_line

_OF = "checkpoints-of"
_CUT_SHORT = ("PytorchStreamWriter", "unexpected pos")
"""Words in the RuntimeError that torch raises when it cannot write a file, instead of an OSError."""


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint that is complete; removes newer ones that were cut off."""
    for path in _checkpoints(folder):
        if _is_whole(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def remove_other_checkpoints(training: str, folder: Path) -> None:
    """Removes the checkpoints that a training with other rows or settings left in the folder."""
    mark = folder / _OF
    if mark.is_file() and mark.read_text() == training:
        return
    for path in _checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(mark, [training.encode()])


@contextmanager
def full_disk_as_unavailable(folder: Path) -> Iterator[None]:
    """Raises Unavailable when the disk refuses to be written, whichever library was writing."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise Unavailable(f"{folder} cannot be written ({first_line(error)}): make room there") from error
    except RuntimeError as error:
        if not any(words in message for message in _chain(error) for words in _CUT_SHORT):
            raise
        raise Unavailable(f"{folder} cannot be written (a file was cut short): make room there") from error


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def _is_whole(path: Path) -> bool:
    try:
        json.loads((path / "trainer_state.json").read_text())
        load_file(path / "adapter_model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(path / name, weights_only=True, map_location="cpu")
        with zipfile.ZipFile(path / "rng_state.pth") as state:  # torch's safe loader refuses what it holds
            return state.testzip() is None
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, zipfile.BadZipFile):
        return False


def _chain(error: BaseException | None) -> Iterator[str]:
    """Yields the messages of an error and of the errors that led to it."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__
