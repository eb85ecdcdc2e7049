"""Checkpoints of a training: which one it may go on from, and how a disk says that there is no room for another."""

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

from schemas.errors import Unavailable, first_line

_OF = "checkpoints-of"
_CUT_SHORT = ("PytorchStreamWriter", "unexpected pos")
"""Words by which torch tells that it could not write: in a RuntimeError about the insides of its files."""


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; one that was cut off is removed."""
    for path in _checkpoints(folder):
        if _is_whole(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def keep_only_of(training: str, folder: Path) -> None:
    """Removes what another training left in the folder, of other rows or settings; no adapter is of two trainings."""
    mark = folder / _OF
    if mark.is_file() and mark.read_text() == training:
        return
    for path in _checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    part = mark.with_suffix(".part")
    part.write_text(training)
    part.replace(mark)


@contextmanager
def full_disk_as_unavailable(folder: Path) -> Iterator[None]:
    """Whatever library was writing, a disk that refuses is one line that says what to do. Raises Unavailable."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise Unavailable(f"{folder} cannot be written ({first_line(error)}): make room there") from error
    except RuntimeError as error:
        if not any(words in said for said in _chain(error) for words in _CUT_SHORT):
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
        with zipfile.ZipFile(path / "rng_state.pth") as state:  # its content is not known to the safe loader
            return state.testzip() is None
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, zipfile.BadZipFile):
        return False


def _chain(error: BaseException | None) -> Iterator[str]:
    """What the error says, and the errors that it came up in."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__
