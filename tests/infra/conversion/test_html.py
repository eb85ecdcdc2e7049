"""HTML becomes the Markdown of what its reader sees, whatever its markup is."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from agents.chunking.outline import Outline, markdown_outline
from infra.conversion import read_html
from infra.conversion.html import MAX_DEPTH, read_page
from tests.agents.indexer.pages import chunks_of, pairs, sections

PAGE = """<!DOCTYPE html><html><head><meta charset=utf-8><title>The &amp; guide</title>
<style>p > b { color: red }</style><script>if (a < b) { document.write("<h1>no</h1>") }</script></head>
<body><nav><ul><li><a href="/">Home</a></ul></nav>
<header><h1>The <em>guide</em></h1></header>
<p>One
two &lt;three&gt;<br>four <a href="x?a>b" title='a > b'>five</a>. <!-- not > seen --><img alt="A logo" src=a.png></p>
<h2>Steps</h2>
<ol><li>First<li><p>Second</p><ul><li>inner</li></ul></li></ol><p>After <code>x = 1</code>
<pre><code class="language-python">def f():
    return "&lt;p&gt;"
</code></pre>
<h3>Sizes</h3>
<table><caption>All sizes</caption><thead><tr><th>Name</th><th>Size</th></tr></thead>
<tbody><tr><td>a|b</td><td><p>1</p><p>2</p></td></tr><tr><td>c<td>3</table>
<template><p>unseen</p></template><svg><title>icon</title></svg>
</body></html>
"""


def outline_of(page: str) -> Outline:
    text, _ = read_html(page)
    return markdown_outline(text)


def test_a_page_becomes_sections_of_markdown() -> None:
    outline = outline_of(PAGE)
    assert read_html(PAGE)[1] == "The & guide"
    assert read_page(PAGE).heading == "The guide"
    assert sections(outline) == [
        ("The guide", "One two <three>\nfour five. A logo"),
        (
            "The guide > Steps",
            '1. First\n2. Second\n\n   - inner\n\nAfter `x = 1`\n\n```\ndef f():\n    return "<p>"\n```',
        ),
        (
            "The guide > Steps > Sizes",
            "All sizes\n\n| Name | Size |\n| --- | --- |\n| a\\|b | 1 2 |\n| c | 3 |",
        ),
    ]
    assert [whole.kind for section in outline.sections for whole in section.code_and_tables] == ["code", "table"]


def test_the_pages_title_is_that_of_its_chunks_unless_the_submission_has_one() -> None:
    assert {chunk.title for chunk in chunks_of(PAGE, "html")} == {"The & guide"}
    assert {chunk.title for chunk in chunks_of(PAGE, "html", title="Mine")} == {"Mine"}


def test_text_that_looks_like_markdown_stays_text() -> None:
    page = "<p># no heading</p><p>``` no code</p><p>&lt;table&gt;</p><h1>A</h1><p>| no | table |</p>"
    assert pairs(page, "html") == [
        (None, "\\# no heading\n\n\\``` no code\n\n\\<table>"),
        ("A", "| no | table |"),
    ]


def test_a_table_that_arranges_a_page_is_read_as_if_it_were_not_there() -> None:
    page = "<table><tr><td>menu<td><h1>A</h1>a<table><tr><td>1</table>b<pre>c</pre></table>d"
    assert sections(outline_of(page)) == [("", "menu"), ("A", "a\n\n| 1 |\n| --- |\n\nb\n\n```\nc\n```\n\nd")]


def test_a_page_without_anything_to_see_has_no_section() -> None:
    assert outline_of("<script>1</script><nav>x</nav><!-- a --> <p> </p>").sections == ()


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("a <nav> b", "a b"),
        ("</nav>a <nav> b <svg> c", "a b c"),
        ("a <!-- b", "a b"),
        ("a <b", "a <b"),
        ("a < b > c", "a < b > c"),
        ("a <script> b", "a b"),
        ('a <p title="b> c', "a\n\nc"),
        ("<title>t <p>b", "b"),
        ("a &#" + "9" * 5000 + ";", "a &#" + "9" * 5000 + ";"),
        ("<![if x]>a<![endif]><?php b ?>", "a"),
        ("<pre>a", "```\na\n```"),
        ("<table><tr><td>a", "| a |\n| --- |"),
        ("</td></table></li>a<li>b", "a\n- b"),
        ("<h2>a<p>b", "## a\n\nb"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````"),
    ],
)
def test_broken_markup_hides_no_text(page: str, seen: str) -> None:
    assert read_html(page)[0] == seen


@pytest.mark.parametrize("seed", range(100))
def test_any_mixture_of_markup_is_read_twice_alike_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    tags = [
        "p",
        "h1",
        "h3",
        "ul",
        "ol",
        "li",
        "table",
        "tr",
        "td",
        "th",
        "pre",
        "code",
        "br",
        "div",
        "b",
        "a",
        "blockquote",
        "caption",
    ]
    attributes = ["", " x=1", ' y="<>"']
    parts = []
    for number in range(chance.randrange(60)):
        parts.append(f"<{chance.choice(['', '/'])}{chance.choice(tags)}{chance.choice(attributes)}>")
        parts.append(chance.choice([f" w{number}q ", f"&amp;w{number}q", "\n"]))
    page = "".join(parts)
    outline = outline_of(page)
    assert outline == outline_of(page)
    wanted = [part.strip().removeprefix("&amp;") for part in parts if part.strip().endswith("q")]
    for each in wanted:
        assert outline.text.count(each) == 1
    covered = "".join(outline.text[each.start : each.end] + " ".join(each.path) for each in outline.sections)
    assert all(each in covered for each in wanted)
    wholes = [whole for section in outline.sections for whole in section.code_and_tables]
    assert all(left.end <= right.start for left, right in pairwise(wholes))


# fmt: off
UNITS = [
    "<", "<a ", "<!-- ", "<!-- > ", "</", "<![x ", '<a x="', "<ul><li>a", "<table><tr><td>x", "<b> </b>", "<script>",
    "<h2>t", "<pre>", "<title>", "&#999999999;",
    # many elements side by side, and each kind in itself
    "<li>x", "<td>x", "<table><tr><td>x</table>", "<thead><tr><td>x", "<h2></h2>", "<br>", "<p>x", "<b><i>x", "<div>",
    "<blockquote>x", "<nav></svg>", "<table><h1>a", "<b>x<p>", "<a href=https://a.b>x", "<img alt=x>",
]
# fmt: on


@pytest.mark.parametrize("unit", UNITS)
def test_markup_without_an_end_takes_no_quadratic_time(unit: str) -> None:
    # Seconds at most on a slow machine; quadratic time would be minutes.
    text, _ = read_html(unit * (100_000 // len(unit)))
    assert len(text) < 250_000


@pytest.mark.parametrize("around", ["<ol>", "<table>", "<table><thead>", "<table><tr>"])
@pytest.mark.parametrize("unit", ["<li>a", "<tr><td>a", "<td>a"])
def test_one_list_or_table_of_many_items_takes_no_quadratic_time(around: str, unit: str) -> None:
    text, _ = read_html(around + unit * 20_000)
    assert text.count("a") == 20_000


@pytest.mark.parametrize("element", ["div", "li", "blockquote", "b", "ul><li", "table><tr><td"])
def test_the_text_of_any_depth_is_kept_and_its_words_stay_apart(element: str) -> None:
    words = [f"w{number}q" for number in range(10 * MAX_DEPTH)]
    text, _ = read_html("".join(f"<{element}>{word}" for word in words))
    assert re.findall(r"\bw\d+q\b", text) == words


def test_an_element_that_is_left_out_ends_with_its_own_tag_whatever_stands_open_in_it() -> None:
    page = "<title>t</title><nav><div><h1>x<pre><table></nav>a<svg><title>icon</svg><p>b</p></table><h2>c</h2>d"
    assert read_html(page) == ("a\n\nb\n\n## c\n\nd", "t")


def test_a_heading_ends_with_the_next_block() -> None:
    assert read_html("<h1><div>A</div></h1>a<h2>B<ul><li>b")[0] == "# A\n\na\n\n## B\n\n- b"


def test_a_list_that_holds_headings_only_arranges_the_page() -> None:
    page = "<ul><li><h2>A</h2>a<li>b</ul><blockquote><h2>B</h2>c</blockquote><ul><li>d</ul>"
    assert sections(outline_of(page)) == [("A", "a\n\nb"), ("B", "c\n\n- d")]


def test_a_heading_says_in_a_path_what_its_reader_sees() -> None:
    page = "<h1>The &lt;table&gt; of <em>C#</em> &amp;amp; *snake_case* [x]`</h1>a"
    assert sections(outline_of(page)) == [("The <table> of C# &amp; *snake_case* [x]`", "a")]


def test_ordered_items_have_their_numbers() -> None:
    page = "<ol start=3><li>a<li>b<pre>x\n\ny</pre></ol><ol start=" + "9" * 5000 + "><li>c</ol>"
    assert read_html(page)[0].startswith("3. a\n4. b\n\n   ```\n   x\n\n   y\n   ```\n")


def test_a_line_below_a_text_makes_neither_a_heading_nor_a_table_of_it() -> None:
    page = "<p>a<br>===<br>b<br>---<p>a | b<br>---|---<br>c | d<p>~~~<h2>A</h2>x"
    assert [path for path, _ in sections(outline_of(page))] == ["", "A"]
    assert [whole for section in outline_of(page).sections for whole in section.code_and_tables] == []
