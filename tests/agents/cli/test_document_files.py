"""A file becomes a document with its title and format, or is refused in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.cli.documents import DocumentFiles, DocumentLines, first_heading
from agents.cli.jsonl import Item, Refusal
from infra.conversion import Converted, Unreadable
from schemas.documents import DocumentSubmitted

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Converter:
    """Converts in the test's own process: gives what it was told to, or refuses."""

    def __init__(self, found: Converted | None = None) -> None:
        self._found = found

    def convert(self, path: Path) -> Converted:
        if self._found is None:
            raise Unreadable("is damaged")
        return self._found


def read(path: Path, content: bytes | None = None, found: Converted | None = None) -> Item | Refusal:
    if content is not None:
        path.write_bytes(content)
    files = DocumentFiles(build=DocumentLines(clock=lambda: NOW, metadata={"n": 1}), converter=Converter(found))
    return files.read(path, f"sub/{path.name}")


def document(path: Path, content: bytes, found: Converted | None = None) -> DocumentSubmitted:
    item = read(path, content, found)
    assert isinstance(item, Item), item
    assert isinstance(item.value, DocumentSubmitted)
    return item.value


def test_markdown_has_its_first_heading_as_its_title(tmp_path: Path):
    made = document(tmp_path / "a.md", b"intro\n\n## The *title* ##\n\nbody")
    assert (made.document_id, made.title, made.format, made.metadata) == (
        "sub/a.md",
        "The *title*",
        "markdown",
        {"n": 1},
    )


def test_text_has_its_files_name_and_no_headings(tmp_path: Path):
    made = document(tmp_path / "b.txt", b"\xef\xbb\xbf# no heading here")
    assert (made.title, made.format, made.text) == ("b.txt", "text", "# no heading here")


def test_a_converted_file_is_markdown_with_the_title_that_was_found(tmp_path: Path):
    made = document(tmp_path / "c.PDF", b"%PDF", Converted("# Text", "T" * 2000))
    assert (made.title, made.format, made.text) == ("T" * 1000, "markdown", "# Text")
    assert document(tmp_path / "c.pdf", b"%PDF", Converted("text")).title == "c.pdf"


def test_one_long_line_is_a_document(tmp_path: Path):
    assert len(document(tmp_path / "a.txt", b"word " * 10_000).text) == 50_000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"MZ\0\1", "holds NUL bytes, so it is not a text file"),
        ("a.md", b"caf\xe9", "byte 4 is not UTF-8"),
        ("a.md", b" \n", "text: is empty"),
        ("a.txt", b"x" * 2_000_001, "text: is longer than 2,000,000 characters"),
        ("a.pdf", b"%PDF", "is damaged"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, name: str, content: bytes, reason: str):
    assert read(tmp_path / name, content) == Refusal(str(tmp_path / name), reason)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(200 * 1024**2)
    assert read(path) == Refusal(str(path), "has 200 MB; 50 MB is the most: split it")


def test_a_file_that_has_vanished_is_refused(tmp_path: Path):
    assert read(tmp_path / "gone.md") == Refusal(str(tmp_path / "gone.md"), "is gone since it was found: publish again")


@pytest.mark.parametrize(
    ("text", "heading"),
    [("#\ttab", "tab"), ("#none\n####### seven\n# ", None), ("```\n# code\n```\n# yes", "yes"), ("~~~\n# code", None)],
)
def test_a_heading_is_what_markdown_takes_for_one(text: str, heading: str | None):
    assert first_heading(text) == heading
