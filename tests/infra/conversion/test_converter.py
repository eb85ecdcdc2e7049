"""The process that converts is replaced by the file that kills it, and no file keeps it for long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from infra.conversion import Converter, Unreadable
from infra.conversion.document import MAX_FILE_BYTES
from tests.infra.documents import bomb, docx


@pytest.fixture(scope="module")
def converter():
    with Converter() as made:
        yield made


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_one_child_converts_file_after_file(converter: Converter, tmp_path: Path):
    page = converter.convert(write(tmp_path / "a.html", b"<h1>A</h1><p>text"))
    child = converter._child
    sheet = converter.convert(write(tmp_path / "b.CSV", b"a,b\n1,2\n"))
    assert (page.title, page.text) == ("A", "# A\n\ntext")
    assert sheet.text == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert converter._child is child is not None


def test_a_file_that_cannot_be_read_leaves_the_child_to_the_next(converter: Converter, tmp_path: Path):
    with pytest.raises(Unreadable, match=r"^is damaged, or no \.docx file \(OSError: Could not find"):
        # A zip file without a document in it.
        converter.convert(write(tmp_path / "a.docx", docx("x").replace(b"word/document.xml", b"word/documents.xm")))
    child = converter._child
    with pytest.raises(Unreadable, match=r"^is empty$"):
        converter.convert(write(tmp_path / "a.json", b" \n"))
    with pytest.raises(Unreadable, match=r"^cannot be read: No such file"):
        converter.convert(tmp_path / "gone.json")
    assert converter.convert(write(tmp_path / "b.json", b"[1]")).text == "- 1"
    assert converter._child is child


def test_a_child_that_was_killed_is_replaced(converter: Converter, tmp_path: Path):
    page = write(tmp_path / "a.html", b"<p>text")
    converter.convert(page)
    assert converter._child is not None
    converter._child.kill()
    converter._child.wait()
    assert converter.convert(page).text == "text"


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path):
    small = write(tmp_path / "a.json", b"1")
    slow = write(tmp_path / "slow.html", b"<div>" * 500_000)
    with Converter(seconds=0.8) as converter:
        begun = time.monotonic()
        with pytest.raises(Unreadable, match=r"^takes longer than 0\.8 s to read: split it, or save it again$"):
            converter.convert(slow)
        assert time.monotonic() - begun < 10
        assert converter.convert(small).text == "1"


def test_a_file_that_takes_too_much_memory_is_given_up(tmp_path: Path):
    small = write(tmp_path / "a.json", b"1")
    wide = write(tmp_path / "wide.json", b"[" + b"[]," * 2_000_000 + b"1]")
    with Converter(memory_bytes=128 * 1024**2) as converter:
        converter.convert(small)  # by which the child is not a fresh one
        with pytest.raises(Unreadable, match=r"^takes more than 0\.1 GB of memory to read: split it$"):
            converter.convert(wide)
        assert converter.convert(small).text == "1"


def test_a_child_that_cannot_even_start_is_no_endless_loop(tmp_path: Path):
    small = write(tmp_path / "a.json", b"1")
    with Converter(memory_bytes=1024) as converter:
        for _ in range(2):
            with pytest.raises(Unreadable, match=r"^(it crashed its reader|takes more than) "):
                converter.convert(small)


def test_a_zip_bomb_costs_a_line(converter: Converter, tmp_path: Path):
    with pytest.raises(Unreadable, match=r"^inflates to more than 300 MB, as a zip bomb would$"):
        converter.convert(write(tmp_path / "a.docx", bomb(1, declared=400 * 1024**2)))


def test_html_may_nest_deeply_and_json_not_without_end(converter: Converter, tmp_path: Path):
    nested = b"<div>" * 1000 + b"deep" + b"</div>" * 1000
    assert converter.convert(write(tmp_path / "a.html", nested)).text == "deep"
    with pytest.raises(Unreadable, match=r"^is nested too deeply$"):
        converter.convert(write(tmp_path / "a.json", b"[" * 100_000 + b"]" * 100_000))


def test_a_text_longer_than_a_document_is_refused(converter: Converter, tmp_path: Path):
    with pytest.raises(Unreadable, match=r"^makes more than 2,000,000 characters of text: split it$"):
        converter.convert(write(tmp_path / "a.html", b"<p>" + b"word " * 400_001))


def test_a_file_that_grew_beyond_the_limit_is_not_read_further(converter: Converter, tmp_path: Path):
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(Unreadable, match=r"^has more than 50 MB: split it$"):
        converter.convert(path)
