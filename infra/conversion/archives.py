"""Checks DOCX, PPTX and XLSX files before their readers inflate them: the readers trust what a zip file declares."""

from __future__ import annotations

import copy
import io
import zipfile
import zlib

from infra.conversion.document import Unreadable

MAX_INFLATED_BYTES = 300 * 1024 * 1024
MAX_MEMBERS = 20_000
_CHUNK = 256 * 1024
_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_archive(raw: bytes, name: str, most_bytes: int = MAX_INFLATED_BYTES) -> None:
    """Raises Unreadable unless ``raw`` is a zip file that really inflates to at most ``most_bytes``."""
    if raw.startswith(_COMPOUND_FILE):
        if _ENCRYPTED_PACKAGE in raw:
            raise Unreadable("is protected by a password: save it without one")
        raise Unreadable(f"is in an older format than its name says: save it as {name}")
    too_large = Unreadable(f"inflates to more than {most_bytes // 1024**2:,} MB, as a zip bomb would")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > most_bytes:
                raise too_large
            total = 0
            for member in members:
                if member.flag_bits & 1:
                    raise Unreadable("is protected by a password: save it without one")
                if member.compress_type not in _METHODS:
                    raise Unreadable(f"is compressed in a way that no {name} file is")
                total += _inflated(archive, member, most_bytes - total)
                if total > most_bytes:
                    raise too_large
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Unreadable(f"is damaged, or no {name} file: {str(error).rstrip('.') or 'it ends too early'}") from None


def _inflated(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int) -> int:
    """Counts the bytes that a member inflates to; stops counting soon after ``most_bytes``."""
    # ``zipfile`` stops at the length that the header declares; the formats' readers inflate all that there is.
    unbounded = copy.copy(member)
    unbounded.file_size = most_bytes + 1
    del unbounded.CRC  # the checksum of the declared length only
    total = 0
    with archive.open(unbounded) as file:
        while chunk := file.read(_CHUNK):
            total += len(chunk)
    return total
