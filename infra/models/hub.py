"""Finds the local folder of a model by name or path, and downloads it from the hub if need be."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.errors import ModelMissing

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""The files to download: weights as safetensors only, never pickles and never code."""
_ANSWER_SECONDS = 5.0
"""How long the hub may take to answer before it counts as unreachable."""


def local_folder(name: str, setting: str, *, fetch: bool = True) -> Path:
    """Returns a model's folder: by path, or by hub name from the cache, or downloaded if ``fetch``.

    ``setting`` names the setting in error messages. Raises ModelMissing, in one line.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(path, setting)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.exists():
        raise ModelMissing(
            f"{setting} is {name!r}, but there is no such folder: give the folder of a model, or the name of one"
        )
    folder = _cached(name)
    if folder is None and not fetch:
        raise ModelMissing(f"{setting} is {name!r}, which is not on this machine")
    return _checked(folder or _downloaded(name, setting), setting)


def _checked(folder: Path, setting: str) -> Path:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known = bool(config.get("model_type"))
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        # transformers would import every architecture that it knows, which takes half a minute.
        raise ModelMissing(
            f"{setting}: {folder} has no config.json that names a model_type, so it is not a model; "
            "give a model's folder"
        )
    if not _has_weights(folder):
        raise ModelMissing(
            f"{setting}: {folder} lacks its weights as *.safetensors (pickled ones are refused); "
            "save the model as safetensors there"
        )
    return folder


def _has_weights(folder: Path) -> bool:
    """Says whether every file of weights is there; a large model has an index that names them."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / name).is_file() for name in names)


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    # A download that was interrupted leaves a folder too.
    return folder if (folder / "config.json").is_file() and _has_weights(folder) else None


def _downloaded(name: str, setting: str) -> Path:
    from httpx import HTTPError, TransportError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=_ANSWER_SECONDS)
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (RepositoryNotFoundError, HFValidationError):
        reason = "the model hub has no such model"
    except (TransportError, OfflineModeIsEnabled):
        reason = "the model hub cannot be reached"
    except HTTPError as error:
        reason = f"the model hub refused it ({str(error).splitlines()[0]})"
    except OSError as error:
        reason = f"it could not be stored ({error.strerror or error})"
    raise ModelMissing(
        f"{setting} is {name!r}, which is no folder here, and {reason}: give the folder of a model, or check the name"
    )
