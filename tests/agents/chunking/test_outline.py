"""Markdown is split at its headings, and at nothing that only looks like one."""

from __future__ import annotations

import pytest

from agents.chunking.outline import (
    MAX_HEADING_CHARACTERS,
    guessed_outline,
    markdown_outline,
    plain_outline,
    read_outline,
)
from tests.agents.indexer.pages import sections

GUIDE = """Before.

# Guide { #guide }
Welcome.

## *Install* with [pip](https://a.b) & `uv` ##
Steps.

### Linux ###
apt

Usage
=====
Use it.
"""


def test_each_section_knows_the_headings_above_it() -> None:
    assert sections(markdown_outline(GUIDE)) == [
        ("", "Before."),
        ("Guide", "Welcome."),
        ("Guide > Install with pip & uv", "Steps."),
        ("Guide > Install with pip & uv > Linux", "apt"),
        ("Usage", "Use it."),
    ]


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_the_lines_may_end_in_any_way(line_end: str) -> None:
    found = sections(markdown_outline(GUIDE.replace("\n", line_end)))
    assert found == sections(markdown_outline(GUIDE))


@pytest.mark.parametrize(
    "block",
    [
        "```bash\n# no heading\n```",
        "~~~\n```\n# no heading\n~~~",
        "    # no heading",
        "- # no heading of the page",
        "> # no heading of the page",
        "<div>\n# no heading\n</div>",
        "#no heading",
        "####### no heading",
        "\\# no heading",
        "```\n# no heading: the code does not end",
    ],
)
def test_what_only_looks_like_a_heading_is_text(block: str) -> None:
    assert sections(markdown_outline(f"# Top\n\n{block}")) == [("Top", block.strip())]
    assert guessed_outline(block) == plain_outline(block)


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# A { #anchor .class }", "A"),
        ("# A {: #anchor }", "A"),
        ("# A {x}", "A {x}"),
        ("# ![A logo](logo.png) **B**", "A logo B"),
        ("# <a id='x'></a>A &lt; B", "A < B"),
        ("# A \\* B", "A * B"),
        ("# [A][ref] `B > C`", "[A][ref] B > C"),
        ("A\nB\n---", "A B"),
    ],
)
def test_a_heading_is_what_its_reader_sees(line: str, title: str) -> None:
    assert sections(markdown_outline(f"{line}\n\ntext")) == [(title, "text")]


def test_a_heading_that_a_path_cannot_say_stays_in_the_text() -> None:
    long = "word " * 100
    ((path, text),) = sections(markdown_outline(f"# {long}\n\nbody"))
    assert len(path) <= MAX_HEADING_CHARACTERS
    assert path.endswith("…")
    assert text == f"# {long}\n\nbody"
    assert sections(markdown_outline("# ![](a.png)\nbody")) == [("", "# ![](a.png)\nbody")]


def test_a_heading_without_text_is_found_below_or_by_itself() -> None:
    assert sections(markdown_outline("# A\n## B\n### C { #c }\n## D\ntext\n# E")) == [
        ("A > B", "C"),
        ("A > D", "text"),
        ("", "E"),
    ]


def test_skipped_levels_and_empty_headings_leave_no_gap_in_the_path() -> None:
    assert sections(markdown_outline("# A\n#### B\nb\n## C\nc\n#\nd")) == [("A > B", "b"), ("A > C", "c"), ("", "d")]


def test_front_matter_is_left_out() -> None:
    assert sections(markdown_outline("---\ntitle: T\n# remark\n---\ntext")) == [("", "text")]
    assert sections(markdown_outline("\ufeff---\r\na: b\r\n...\r\n# A\r\ntext")) == [("A", "text")]
    unsure = "---\ntitle: T\n# remark\n---\ntext"
    assert guessed_outline(unsure) == plain_outline(unsure)


@pytest.mark.parametrize("text", ["---\n\nno front matter\n\n---\ntext", "---\ntitle: T\n\ntext"])
def test_a_line_of_dashes_alone_makes_no_front_matter(text: str) -> None:
    outline = markdown_outline(text)
    assert "".join("".join(text for _, text in sections(outline)).split()).startswith("---")


def test_without_a_format_a_heading_with_number_signs_makes_markdown() -> None:
    assert sections(read_outline("a\n# B\nc", None)) == [("", "a"), ("B", "c")]
    for text in ("B\n===\nc", "a\n```\n# b\n```", "<h1>B</h1>c"):
        assert sections(read_outline(text, None)) == [("", text)]
    assert sections(read_outline("a\n# B\nc", "text")) == [("", "a\n# B\nc")]
    assert sections(read_outline("B\n===\nc", "markdown")) == [("B", "c")]


def test_code_and_tables_are_marked_wherever_they_stand() -> None:
    text = (
        "- item\n\n  ```\n  a\n  ```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n    indented\n\n"
        "<table><thead><tr><th>a</th></tr></thead>\n\n<tr><td>\n\n```\nb\n```\n\n</td></tr></table>\n\nend\n"
    )
    (section,) = markdown_outline(text).sections
    assert [(each.kind, text[each.start : each.end].strip()) for each in section.code_and_tables] == [
        ("code", "```\n  a\n  ```"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("code", "indented"),
        ("html table", text[text.index("<table>") : text.index("\n\nend")]),
    ]
    headers = [text[each.start : each.header_end] for each in section.code_and_tables if each.header_end]
    assert headers == ["| a | b |\n|---|---|\n", "<table><thead><tr><th>a</th></tr></thead>"]
