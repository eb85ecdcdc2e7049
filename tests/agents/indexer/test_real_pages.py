"""Pages of a real documentation are cut at their headings, with their code whole, and nothing of them is lost."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from agents.chunking.outline import markdown_outline
from agents.chunking.splitting import split_outline
from agents.indexer.chunks import MAX_CHARACTERS
from tests.agents.indexer.pages import TOKEN, chunks_of, spans

DATA = Path(__file__).parents[4] / "shared" / "data" / "fastapi_docs_stream" / "docs_events.jsonl.gz"
EVENTS, MAX_TOKENS = 100, 206
HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)


@cache
def _texts() -> list[str]:
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return [text for text in texts if text and text.strip()][-EVENTS:]


@pytest.fixture
def texts() -> list[str]:
    if not DATA.is_file():
        pytest.skip(f"there is no {DATA}: the fastapi_docs_stream data are not part of the repository")
    return _texts()


def test_no_chunk_is_too_long_or_has_a_heading_in_it_outside_of_code(texts: list[str]) -> None:
    for text in texts:
        for chunk in chunks_of(text, None, max_tokens=MAX_TOKENS, overlap_tokens=30):
            assert len(TOKEN.findall(chunk.text)) <= MAX_TOKENS
            assert len(chunk.text) <= MAX_CHARACTERS
            # A part of code that was too long is no code to the parser, hence the search in the page.
            for found in HEADING.finditer(chunk.text):
                line = chunk.text[found.start() :].split("\n")[0]
                assert line not in _headings(text)


def test_all_characters_but_those_of_the_headings_are_in_the_chunks_of_their_section(texts: list[str]) -> None:
    for text in texts:
        outline = markdown_outline(text)
        # Tables that do not fit repeat their header rows.
        tables = any(whole.kind != "code" for section in outline.sections for whole in section.code_and_tables)
        pieces = split_outline(outline, spans(text), max_tokens=10_000 if tables else MAX_TOKENS, overlap_tokens=0)
        said = "".join("".join(piece.split()) for _, piece in pieces)
        assert said == "".join("".join(text[one.start : one.end].split()) for one in outline.sections)
        front_matter = text.index("\n---\n", 3) + 5 if text.startswith("---\n") else 0
        left_out = "".join(
            text[before:after]
            for before, after in zip(
                [front_matter, *(one.end for one in outline.sections)],
                [*(one.start for one in outline.sections), len(text)],
                strict=True,
            )
        )
        lines = [line for line in left_out.split("\n") if line.strip()]
        assert [line for line in lines if line.lstrip("# ") and line not in _headings(text)] == []


def test_every_fence_that_fits_is_whole(texts: list[str]) -> None:
    whole = 0
    for text in texts:
        chunks = [chunk.text for chunk in chunks_of(text, None, max_tokens=MAX_TOKENS, overlap_tokens=30)]
        lines = text.split("\n")
        for token in MarkdownIt("commonmark").parse(text):
            if token.type == "fence" and token.map:
                fence = "\n".join(lines[token.map[0] : token.map[1]]).strip()
                if len(TOKEN.findall(fence)) <= MAX_TOKENS:
                    whole += 1
                    assert any(fence in chunk for chunk in chunks), fence
    assert whole >= EVENTS


def _headings(text: str) -> set[str]:
    """Returns the lines of the page's headings, found by other means than those under test."""
    outside, lines = True, set()
    for line in text.split("\n"):
        if line.strip().startswith("```"):
            outside = not outside
        elif outside and HEADING.match(line):
            lines.add(line)
    return lines
