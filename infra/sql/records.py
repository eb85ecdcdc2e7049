"""Packs Kafka records into one value of a table, and unpacks them byte for byte.

The first byte is the number of the format. A record is topic, key, value and headers. Each field is a 4-byte big-endian
length and its bytes; None has the length 0xFFFFFFFF and no bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from schemas.envelope import Record

_FORMAT = 1
_LENGTH = struct.Struct(">I")
_NONE = 0xFFFFFFFF


def pack(records: Sequence[Record]) -> bytes:
    """Returns the records as bytes."""
    parts = [bytes([_FORMAT]), _LENGTH.pack(len(records))]
    for record in records:
        parts += _field(record.topic.encode())
        parts += _field(record.key)
        parts += _field(record.value)
        parts.append(_LENGTH.pack(len(record.headers)))
        for name, value in record.headers:
            parts += _field(name.encode())
            parts += _field(value)
    return b"".join(parts)


def unpack(packed: bytes) -> tuple[Record, ...]:
    """Returns the records that ``pack`` packed. Raises ValueError for other bytes."""
    if not packed or packed[0] != _FORMAT:
        raise ValueError("these are not packed records of a format that this version knows: upgrade Everlearn")
    fields = _Fields(packed)
    return tuple(_record(fields) for _ in range(fields.number()))


def _field(value: bytes | None) -> tuple[bytes, ...]:
    return (_LENGTH.pack(_NONE),) if value is None else (_LENGTH.pack(len(value)), value)


def _record(fields: _Fields) -> Record:
    topic, key, value = fields.blob().decode(), fields.blob_or_none(), fields.blob_or_none()
    headers = tuple((fields.blob().decode(), fields.blob()) for _ in range(fields.number()))
    return Record(topic=topic, key=key, value=value, headers=headers)


class _Fields:
    """Reads packed fields one after the other."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._at = 1

    def number(self) -> int:
        if self._at + _LENGTH.size > len(self._packed):
            raise ValueError("the packed records end too early")
        (number,) = _LENGTH.unpack_from(self._packed, self._at)
        self._at += _LENGTH.size
        return int(number)

    def blob(self) -> bytes:
        found = self.blob_or_none()
        if found is None:
            raise ValueError("the packed records lack a field")
        return found

    def blob_or_none(self) -> bytes | None:
        length = self.number()
        if length == _NONE:
            return None
        end = self._at + length
        if end > len(self._packed):
            raise ValueError("the packed records end too early")
        found = self._packed[self._at : end]
        self._at = end
        return found
