"""A web page is read as its reader sees it, whatever its markup is."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from agents.chunking.webpage import webpage_outline
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


def test_a_page_becomes_sections_of_markdown() -> None:
    outline = webpage_outline(PAGE)
    assert outline.title == "The & guide"
    assert sections(outline) == [
        ("The guide", "One two <three>\nfour five. A logo"),
        (
            "The guide > Steps",
            '1. First\n2. Second\n  - inner\n\nAfter `x = 1`\n\n```\ndef f():\n    return "<p>"\n```',
        ),
        (
            "The guide > Steps > Sizes",
            "All sizes\n\n| Name | Size |\n| --- | --- |\n| a\\|b | 1 2 |\n| c | 3 |",
        ),
    ]
    assert [whole.kind for section in outline.sections for whole in section.wholes] == ["code", "table"]


def test_the_pages_title_is_that_of_its_chunks_unless_the_submission_has_one() -> None:
    assert {chunk.title for chunk in chunks_of(PAGE, "html")} == {"The & guide"}
    assert {chunk.title for chunk in chunks_of(PAGE, "html", title="Mine")} == {"Mine"}


def test_text_that_looks_like_markdown_stays_text() -> None:
    page = "<p># no heading</p><p>``` no code</p><p>&lt;table&gt;</p><h1>A</h1><p>| no | table |</p>"
    assert pairs(page, "html") == [
        (None, "# no heading\n\n``` no code\n\n<table>"),
        ("A", "| no | table |"),
    ]


def test_a_table_that_arranges_a_page_is_read_as_if_it_were_not_there() -> None:
    page = "<table><tr><td>menu<td><h1>A</h1>a<table><tr><td>1</table>b<pre>c</pre></table>d"
    assert sections(webpage_outline(page)) == [("", "menu"), ("A", "a\n\n| 1 |\n\nb\n\n```\nc\n```\n\nd")]


def test_a_page_without_anything_to_see_has_no_section() -> None:
    assert webpage_outline("<script>1</script><nav>x</nav><!-- a --> <p> </p>").sections == ()


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
        ("<table><tr><td>a", "| a |"),
        ("</td></table></li>a<li>b", "a\n\n- b"),
        ("<h2>a<p>b", "## a\n\nb"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````"),
    ],
)
def test_broken_markup_hides_no_text(page: str, seen: str) -> None:
    assert webpage_outline(page).text == seen


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
    outline = webpage_outline(page)
    assert outline == webpage_outline(page)
    wanted = [part.strip().removeprefix("&amp;") for part in parts if part.strip().endswith("q")]
    for each in wanted:
        assert outline.text.count(each) == 1
    covered = "".join(outline.text[each.start : each.end] + " ".join(each.path) for each in outline.sections)
    assert all(each in covered for each in wanted)
    wholes = [whole for section in outline.sections for whole in section.wholes]
    assert all(left.end <= right.start for left, right in pairwise(wholes))


UNITS = [
    "<",
    "<a ",
    "<!-- ",
    "<!-- > ",
    "</",
    "<![x ",
    '<a x="',
    "<ul><li>a",
    "<table><tr><td>x",
    "<b> </b>",
    "<script>",
]


@pytest.mark.parametrize("unit", [*UNITS, "<h2>t", "<pre>", "<title>", "&#999999999;"])
def test_markup_without_an_end_takes_no_quadratic_time(unit: str) -> None:
    # A second at most on a slow machine; quadratic time would be minutes.
    outline = webpage_outline(unit * (200_000 // len(unit)))
    assert len(outline.text) < 500_000
