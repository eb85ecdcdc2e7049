"""Chunks keep to their headings, tables and code stay whole, and nothing of a document is lost."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from agents.chunking.outline import read_outline
from agents.chunking.splitting import MAX_CHARACTERS, split_outline
from tests.agents.indexer.pages import TOKEN, chunks_of, pairs, spans, synthetic_markdown

MARKED = re.compile(r"w\d+q")


@pytest.mark.parametrize("seed", range(300))
def test_any_markdown_is_cut_at_its_headings_and_nothing_is_lost(seed: int) -> None:
    text = synthetic_markdown(seed)
    outline = read_outline(text, "markdown")
    max_tokens = (12, 40, 200)[seed % 3]
    pieces = split_outline(outline, spans(text), max_tokens=max_tokens, overlap_tokens=max_tokens // 5)
    marked = set[str]()
    for path, piece in pieces:
        assert piece == piece.strip() != ""
        assert len(TOKEN.findall(piece)) <= max_tokens
        marked |= {*MARKED.findall(" > ".join(path)), *MARKED.findall(piece)}
    assert marked == set(MARKED.findall(text))
    # A chunk says nothing that another section says, so each section's words are in chunks under its path alone.
    home = {mark: at for at, one in enumerate(outline.sections) for mark in MARKED.findall(text[one.start : one.end])}
    homes = [{home[mark] for mark in MARKED.findall(piece)} for _, piece in pieces]
    assert all(len(each) <= 1 for each in homes)
    assert [each for each, after in pairwise(homes) if each and after and min(each) > min(after)] == []
    for (path, _), at in zip(pieces, homes, strict=True):
        assert all(outline.sections[one].path == path for one in at)
    for section in outline.sections:
        for whole in section.code_and_tables:
            kept = text[whole.start : whole.end].strip()
            if len(TOKEN.findall(kept)) <= max_tokens:
                assert any(kept in piece for _, piece in pieces)


@pytest.mark.parametrize("seed", range(100))
def test_without_overlap_the_chunks_of_a_section_say_it_exactly_once(seed: int) -> None:
    text = synthetic_markdown(seed)
    outline = read_outline(text, "markdown")
    # Tables that do not fit repeat their header rows.
    max_tokens = (
        25 if not any(each.kind != "code" for one in outline.sections for each in one.code_and_tables) else 10_000
    )
    pieces = split_outline(outline, spans(text), max_tokens=max_tokens, overlap_tokens=0)
    bodies = "".join(text[section.start : section.end] for section in outline.sections)
    assert "".join("".join(piece.split()) for _, piece in pieces) == "".join(bodies.split())


def test_a_chunk_ends_where_its_section_ends_however_small_both_are() -> None:
    assert pairs("# A\na\n## B\nb\n# C\nc") == [("A", "a"), ("A > B", "b"), ("C", "c")]


def test_prose_overlaps_within_its_section_alone() -> None:
    first, second = (" ".join(f"{name}{number}" for number in range(50)) for name in "ab")
    chunks = pairs(f"# A\n{first}\n# B\n{second}", max_tokens=20, overlap_tokens=5)
    assert "a49" in chunks[2][1].split()
    for (heading, left), (following, right) in pairwise(chunks):
        assert len({*left.split()} & {*right.split()}) == (5 if heading == following else 0)


def test_code_that_fits_is_whole_though_the_prose_before_it_had_room() -> None:
    code = "```\n" + "x = 1\n" * 3 + "```"
    assert pairs(f"One two three four five six seven eight nine ten.\n\n{code}\n\nEnd.", max_tokens=20) == [
        (None, "One two three four five six seven eight nine ten."),
        (None, f"{code}\n\nEnd."),
    ]


def test_code_that_does_not_fit_is_cut_between_its_lines() -> None:
    lines = [f"    name{number}. value = call({number})" for number in range(20)]
    chunks = [text for _, text in pairs("```\n" + "\n".join(lines) + "\n```", max_tokens=20)]
    assert len(chunks) > 5
    assert [line.strip() for chunk in chunks for line in chunk.split("\n")] == [
        "```",
        *map(str.strip, lines),
        "```",
    ]


def test_a_table_that_does_not_fit_repeats_its_header_rows() -> None:
    header, rows = "| a | b |\n|---|---|", [f"| {number} | x. y |" for number in range(9)]
    chunks = [text for _, text in pairs("Before.\n\n" + "\n".join([header, *rows]) + "\n\nAfter.", max_tokens=34)]
    assert chunks == [
        "Before.",
        "\n".join([header, *rows[:2]]),
        "\n".join([header, *rows[2:4]]),
        "\n".join([header, *rows[4:6]]),
        "\n".join([header, *rows[6:8]]),
        "\n".join([header, rows[8]]),
        "After.",
    ]


def test_an_html_table_that_does_not_fit_is_cut_between_rows_too() -> None:
    header = "<table><tr><th>a</th></tr>"
    rows = [f"<tr><td>x{number}</td></tr>" for number in range(4)]
    chunks = [text for _, text in pairs(header + "".join(rows) + "</table>", max_tokens=50)]
    assert chunks == [
        f"{header}\n{rows[0]}{rows[1]}",
        f"{header}\n{rows[2]}",
        f"{header}\n{rows[3]}</table>",
    ]


def test_a_row_that_does_not_fit_beside_the_header_is_cut_as_prose_is() -> None:
    header = "| a | b |\n|---|---|"
    chunks = [text for _, text in pairs(f"{header}\n| {'word ' * 60}| x |", max_tokens=40)]
    assert all(chunk.startswith(f"{header}\n") for chunk in chunks)
    assert sum(chunk.count("word") for chunk in chunks) == 60


def test_a_header_that_would_fill_the_chunk_is_not_repeated() -> None:
    header = "|" + " column |" * 8 + "\n|" + "---|" * 8
    chunks = [text for _, text in pairs(f"{header}\n" + f"|{' x |' * 8}\n" * 9, max_tokens=60)]
    assert sum("column" in chunk for chunk in chunks) == 1
    assert sum(chunk.count("x") for chunk in chunks) == 72


def test_a_heading_without_text_makes_a_chunk_of_bounded_size() -> None:
    assert pairs("# A\n## B {#b}") == [("A", "B")]
    assert [text for _, text in pairs("# " + "word " * 30, max_tokens=20, overlap_tokens=0)] == [
        ("word " * 20).strip(),
        ("word " * 10).strip(),
    ]


@pytest.mark.parametrize("format", ["markdown", "html", "text", None])
def test_a_line_of_50_000_characters_without_a_space_is_kept(format: str | None) -> None:
    chunks = chunks_of("# A\n" + "x" * 50_000, format)  # type: ignore[arg-type]
    assert sum(chunk.text.count("x") for chunk in chunks) == 50_000
    assert max(len(chunk.text) for chunk in chunks) == MAX_CHARACTERS


TraceFunction = Callable[[FrameType, str, Any], Any]


@pytest.mark.parametrize(
    "block",
    [
        "# Title\n\nText.\n\n",
        "Lorem ipsum dolor sit amet, consectetur. ",
        "- - - item\n",
        "> - quoted\n",
        "| a | b |\n|---|---|\n",
        "```\nx\n```\n",
        "<table>\n\n",
        "---\n",
        "[a]: b\n",
        "[",
        "#\n",
    ],
)
def test_the_work_grows_with_the_length_for_any_block(block: str) -> None:
    def lines_run(length: int) -> int:
        text = block * (length // len(block))
        tokens = spans(text)
        count = 0

        def trace(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            split_outline(read_outline(text, "markdown"), tokens, max_tokens=220, overlap_tokens=30)
        finally:
            sys.settrace(before)
        return count

    # Lines of Python run, the parser's too: the same on every machine, however busy. Quadratic work would be 64 times.
    assert lines_run(16_000) < 10 * lines_run(2_000)


def test_lists_as_deep_as_they_are_long_are_read() -> None:
    text = "".join("  " * depth + f"- w{depth}q\n" for depth in range(400))
    assert set(MARKED.findall("\n".join(text for _, text in pairs(text)))) == set(MARKED.findall(text))


def test_ten_thousand_headings_make_ten_thousand_chunks() -> None:
    assert len(pairs("".join(f"## H{number}\nt\n" for number in range(10_000)))) == 10_000
