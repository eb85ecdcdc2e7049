"""Reads, checks and installs adapters on disk, whose id is a hash of their content: what was judged is what is served.

An adapter is three files: PEFT's settings, its weights, and the card that says what they are for. The id is a hash over
the three. Probes lie beside them and are not part of the id, because the validator makes them later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.durable_files import new_folder, place, replace_file
from schemas.errors import AdapterMissing, unavailable
from schemas.generation import ChatMessage
from schemas.registry import Probe

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "everlearn.json"
FILES = (CONFIG, WEIGHTS, CARD)
PROBES = "probes.json"

ADAPTER_ID = re.compile(r"[0-9a-f]{32}")
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"}
"""Suffixes of files that may hold pickles. Reading a pickle can run any code."""
_UNORDERED = ("target_modules", "exclude_modules")
"""Settings that PEFT keeps as sets and writes in any order."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Says what an adapter is for. The revision and the template are SHA-256 in hexadecimal."""

    task: str
    base_model: str
    base_revision: str
    chat_template: str


def write_card(folder: Path, card: Card) -> None:
    """Writes the card into a folder to which PEFT saved an adapter."""
    (folder / CARD).write_bytes(_canonical(asdict(card)))


def read_card(folder: Path) -> Card:
    """Reads an adapter's card. Raises AdapterMissing when it is missing or incomplete."""
    values = _json(folder, CARD)
    names = Card.__dataclass_fields__
    if any(not isinstance(values.get(name), str) or not values[name] for name in names):
        raise AdapterMissing(f"{folder / CARD} must say {', '.join(names)}: train the adapter again")
    return Card(**{name: values[name] for name in names})


def adapter_id_of(folder: Path) -> str:
    """Computes an adapter's id: the first 32 hexadecimal digits of SHA-256 over the three files.

    JSON files are hashed in canonical form. Raises AdapterMissing when the folder does not hold an adapter, or holds
    a pickle or a link.
    """
    _refuse_pickles(folder)
    read_card(folder)
    digest = hashlib.sha256()
    for name in FILES:
        if name == WEIGHTS:
            _check_weights(folder)
            size = _stat(folder, name).st_size
            chunks = _chunks(folder, name)
        else:
            content = _canonical(_json(folder, name))
            size, chunks = len(content), iter([content])
        # With the lengths, so that no other split of the same bytes into files has the same hash.
        digest.update(f"{name}\n{size}\n".encode())
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()[:32]


def verify(adapter_id: str, folder: Path) -> None:
    """Raises AdapterMissing when the folder does not hold exactly what the id was made from, byte for byte."""
    found = adapter_id_of(folder)
    for name in (CONFIG, CARD):
        if _read(folder, name) != _canonical(_json(folder, name)):
            raise AdapterMissing(f"{adapter_id}: {name} in {folder} was changed: train it again, or roll back")
    if found != adapter_id:
        raise AdapterMissing(
            f"{adapter_id}: the files in {folder} were changed (they are {found} now): train it again, or roll back"
        )


def install(source: Path, adapters_folder: Path) -> tuple[str, Path]:
    """Copies an adapter into the folder of its id; returns the id and the folder.

    Idempotent, also when two processes install the same adapter at once. Raises AdapterMissing when the source is not
    an adapter, Unavailable when the disk is full; then it leaves nothing behind.
    """
    adapter_id_of(source)  # checked before anything is written
    with new_folder(adapters_folder) as part:
        _copy(source, part)
        adapter_id = adapter_id_of(part)
        target = adapters_folder / adapter_id
        if not place(part, target):
            _repair(part, target)
    verify(adapter_id, target)
    return adapter_id, target


def size_of(folder: Path) -> int:
    """Returns the size of the three files in bytes."""
    return sum(_stat(folder, name).st_size for name in FILES)


def write_probes(folder: Path, probes: Sequence[Probe]) -> None:
    """Writes the probes beside an adapter, whole or not at all. Raises Unavailable when the disk is full."""
    replace_file(
        folder / PROBES, [json.dumps([asdict(probe) for probe in probes], ensure_ascii=False, indent=1).encode()]
    )


def read_probes(folder: Path) -> tuple[Probe, ...]:
    """Reads the probes of an adapter; empty where there are none. Raises AdapterMissing when they are damaged."""
    if not os.path.lexists(folder / PROBES):
        return ()
    try:
        return tuple(
            Probe(
                messages=tuple(ChatMessage(role=each["role"], content=each["content"]) for each in one["messages"]),
                output=str(one["output"]),
                max_tokens=int(one["max_tokens"]),
                engine=str(one.get("engine", "")),
            )
            for one in json.loads(_read(folder, PROBES))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterMissing(f"{folder / PROBES} is damaged ({error}): train the adapter again") from error


def _canonical(values: dict[str, Any]) -> bytes:
    """Encodes JSON with sorted names and no white space, so that formatting does not change the id."""
    values = {
        name: sorted(value) if name in _UNORDERED and _is_texts(value) else value for name, value in values.items()
    }
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        values = json.loads(_read(folder, name))
    except ValueError as error:
        raise AdapterMissing(f"{folder / name} is not JSON ({error}): train the adapter again") from error
    if not isinstance(values, dict):
        raise AdapterMissing(f"{folder / name} holds no JSON object: train the adapter again")
    return values


def _check_weights(folder: Path) -> None:
    """Reads the header of the weights, which a renamed pickle or a truncated file does not have."""
    from safetensors import SafetensorError, safe_open

    _stat(folder, WEIGHTS)
    try:
        with safe_open(folder / WEIGHTS, framework="np") as tensors:
            empty = not list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise unavailable(error) or AdapterMissing(
            f"{folder / WEIGHTS} is not in safetensors ({error}): train the adapter again"
        ) from error
    if empty:
        raise AdapterMissing(f"{folder / WEIGHTS} holds no weights: train the adapter again")


def _refuse_pickles(folder: Path) -> None:
    try:
        pickles = sorted(each.name for each in folder.iterdir() if each.suffix.lower() in _PICKLES)
    except OSError as error:
        raise unavailable(error) or AdapterMissing(
            f"there is no adapter in {folder} ({error.strerror}): train it again, or roll back"
        ) from error
    if folder.is_symlink():
        raise AdapterMissing(f"{folder} is a link: an adapter must lie there itself")
    if pickles:
        raise AdapterMissing(f"{folder} may hold pickles, which can run code ({', '.join(pickles)}): save safetensors")


def _stat(folder: Path, name: str) -> os.stat_result:
    try:
        found = os.lstat(folder / name)
    except OSError as error:
        raise unavailable(error) or AdapterMissing(
            f"{folder} has no {name} ({error.strerror}): train the adapter again"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise AdapterMissing(f"{folder / name} is a link or no file: an adapter must be plain files")
    return found


def _read(folder: Path, name: str) -> bytes:
    return b"".join(_chunks(folder, name))


def _chunks(folder: Path, name: str) -> Iterator[bytes]:
    _stat(folder, name)
    try:
        # O_NOFOLLOW, in case a link was put there after the check above
        with open(os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk
    except OSError as error:
        raise unavailable(error) or AdapterMissing(
            f"{folder / name} cannot be read ({error.strerror}): train the adapter again"
        ) from error


def _copy(source: Path, part: Path) -> None:
    for name in FILES:
        replace_file(part / name, _chunks(source, name) if name == WEIGHTS else [_canonical(_json(source, name))])


def _repair(part: Path, target: Path) -> None:
    """Replaces the files of an adapter that is installed already and was changed since."""
    for name in FILES:
        if not _same(part / name, target / name):
            (part / name).replace(target / name)


def _same(one: Path, other: Path) -> bool:
    try:
        left, right = (_read(path.parent, path.name) for path in (one, other))
    except AdapterMissing:
        return False
    return left == right
