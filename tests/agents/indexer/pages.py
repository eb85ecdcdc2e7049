"""Documents for the tests of chunking: a tokenizer in miniature, and Markdown that a seed makes."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime

from agents.chunking.outline import Outline
from agents.indexer.chunks import Span, make_chunks
from infra.conversion import read_html
from schemas.documents import DocumentFormat, DocumentSubmitted
from schemas.indexes import Recipe
from schemas.retrieval import Chunk

TOKEN = re.compile(r"\w+|[^\w\s]")
WORDS = [
    "cache",
    "token",
    "größe",
    "漢字",
    "слово",
    "naïve",
    "🙂",
    "x_y",
    "a.b",
    "C++",
    "e.g.",
    "https://a.b/c?d=1",
    "[link](to)",
    "**bold**",
    "`code`",
    "<b>t</b>",
]


def spans(text: str) -> list[Span]:
    return [match.span() for match in TOKEN.finditer(text)]


def chunks_of(
    text: str,
    format: DocumentFormat | None = "markdown",
    *,
    max_tokens: int = 20,
    overlap_tokens: int = 5,
    title: str | None = None,
) -> list[Chunk]:
    event = DocumentSubmitted(
        document_id="d", text=text, title=title, format=format, submitted_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    recipe = Recipe(embedding_model="m", chunk_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return make_chunks(event, "v", spans, recipe, read_html)


def pairs(text: str, format: DocumentFormat | None = "markdown", **options: int) -> list[tuple[str | None, str]]:
    """Heading and text of each chunk."""
    return [(chunk.heading, chunk.text) for chunk in chunks_of(text, format, **options)]  # type: ignore[arg-type]


def sections(outline: Outline) -> list[tuple[str, str]]:
    """The path of each section, and its text without the white space around it."""
    return [(" > ".join(each.path), outline.text[each.start : each.end].strip()) for each in outline.sections]


def synthetic_markdown(seed: int) -> str:
    """Blocks of every kind in any order; each word occurs once, so that its chunk cannot be mistaken."""
    chance = random.Random(seed)
    count = iter(range(10_000))

    def word() -> str:
        return f"{chance.choice(WORDS)}w{next(count)}q"

    def words(most: int) -> str:
        return " ".join(word() for _ in range(chance.randint(1, most)))

    def lines(most: int, indent: str = "") -> str:
        return "".join(f"{indent}{words(6)}\n" for _ in range(chance.randint(1, most)))

    def table() -> str:
        rows = "".join(f"| {words(3)} | {words(3)} |\n" for _ in range(chance.randint(0, 12)))
        return f"| {word()} | {word()} |\n|---|:-:|\n{rows}"

    def html_table() -> str:
        rows = "".join(f"<tr><td>{words(3)}</td>\n\n<td>{word()}</td></tr>\n" for _ in range(chance.randint(1, 6)))
        return f"<table>\n<tr><th>{word()}</th></tr>\n{rows}</table>\n"

    kinds = [
        lambda: f"{'#' * chance.randint(1, 6)} {words(5)}{chance.choice(['', ' ##', ' { #an-anchor }'])}\n",
        lambda: f"{words(4)}\n{chance.choice(['===', '---'])}\n",
        lambda: f"{words(40)}.\n",
        lambda: f"```python\n# {lines(8)}```\n",
        lambda: f"~~~\n{lines(3)}\n```\n# {lines(3)}~~~\n",
        lambda: lines(8, "    "),
        lambda: "".join(f"{'  ' * chance.randint(0, 3)}- {words(8)}\n" for _ in range(chance.randint(1, 6))),
        lambda: f"1. {words(3)}\n\n   ```\n{lines(4, '   ')}   ```\n",
        lambda: f"> # {words(3)}\n> {words(9)}\n",
        table,
        html_table,
        lambda: f"<!-- {words(3)} -->\n",
        lambda: f"{word() * 30}\n",
        lambda: "***\n",
    ]
    return "\n".join(chance.choice(kinds)() for _ in range(chance.randint(1, 25)))
