"""The filter language: how it is parsed, what it selects, and errors with their position for any other text."""

from __future__ import annotations

import random
from typing import Any

import pytest

from infra.milvus.filter_language import expression
from schemas.filters import MAX_DEPTH, MAX_VALUES, Both, Compare, Filter, FilterError, In, Not, matches, parse_filter

A, B, C = (Compare(name, "=", 1) for name in "abc")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ('lang = "en"', Compare("lang", "=", "en")),
        ("year >= 2024", Compare("year", ">=", 2024)),
        ("x<-1.5e2", Compare("x", "<", -150.0)),
        ("draft != TRUE", Compare("draft", "!=", True)),
        ("a.b-c_1 = 1", Compare("a.b-c_1", "=", 1)),
        ("`and` = 1", Compare("and", "=", 1)),
        ('`a "b" ()` = 1', Compare('a "b" ()', "=", 1)),
        ("ключ = 1", Compare("ключ", "=", 1)),
        (r'a = "say \"hi\" \\"', Compare("a", "=", 'say "hi" \\')),
        ('a = "and ) or"', Compare("a", "=", "and ) or")),
        ('a IN ("x", "y")', In("a", ("x", "y"))),
        ("a in(1,2.5)", In("a", (1, 2.5))),
        ("a = 1 or b = 1 and c = 1", Both(A, Both(B, C), either=True)),
        ("a = 1 and b = 1 or c = 1", Both(Both(A, B), C, either=True)),
        ("(a = 1 or b = 1) and c = 1", Both(Both(A, B, either=True), C)),
        ("not a = 1 and b = 1", Both(Not(A), B)),
        ("NOT NOT a = 1", Not(Not(A))),
        ("a = 1 or b = 1 or c = 1", Both(Both(A, B, either=True), C, either=True)),
        ("\ta\n=\r1 ", A),
        ("a = 123456789012345678", Compare("a", "=", 123456789012345678)),
        ("a = 1234567890123456789", Compare("a", "=", 1234567890123456789.0)),
    ],
)
def test_a_filter_is_parsed(text: str, meaning: Filter) -> None:
    parsed = parse_filter(text)
    assert parsed == meaning
    assert type(getattr(parsed, "value", None)) is type(getattr(meaning, "value", None))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "character 1: expected a key of the metadata, found the end"),
        ("lang", "character 5: expected one of = != < <= > >= in, found the end"),
        ("lang == 1", 'character 7: expected a "text", a number, true or false, found ='),
        ("lang = en", 'character 8: expected a "text", a number, true or false, found en'),
        ("lang = 'en'", 'character 8: "\'en\'" is no part of a filter; texts stand in "…"'),
        ('lang = "en', 'character 8: \'"en\' is no part of a filter; texts stand in "…"'),
        (r'a = "\n"', 'character 5: \'"\\\\n"\' is no part of a filter; texts stand in "…"'),
        ("a = 1 b = 2", "character 7: expected 'and', 'or' or the end, found b"),
        ("(a = 1", "character 7: expected ')', found the end"),
        ("a = 1)", "character 6: expected 'and', 'or' or the end, found )"),
        ("a in 1", "character 6: expected '(', found 1"),
        ("a in ()", 'character 7: expected a "text", a number, true or false, found )'),
        ('a in (1, "x")', "character 6: a in (…) mixes number and text: list values of one kind"),
        ("a in (1, true)", "character 6: a in (…) mixes number and true or false: list values of one kind"),
        ("a < true", "character 5: true and false have no order: compare a by = or !="),
        ("a = 1e999", "character 5: 1e999 is too large for a number"),
        ("a = 12abc", "character 5: '12abc' is no part of a filter; texts stand in \"…\""),
        ("and = 1", "character 1: expected a key of the metadata, found and"),
        ("  a = 1 and", "character 12: expected a key of the metadata, found the end"),
        ("a = 1 ; b", "character 7: '; b' is no part of a filter; texts stand in \"…\""),
    ],
)
def test_an_error_says_where_it_is_and_what_was_expected(text: str, fault: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert str(caught.value) == fault


def test_depth_and_size_have_limits() -> None:
    for opening, closing in (("(", ")"), ("not ", ""), ("not (", ")")):
        deepest = MAX_DEPTH // (2 if opening == "not (" else 1)
        parse_filter(opening * deepest + "a = 1" + closing * deepest)
        with pytest.raises(FilterError, match=rf"^character \d+: .*more than {MAX_DEPTH} deep"):
            parse_filter(opening * (deepest + 1) + "a = 1" + closing * (deepest + 1))
        with pytest.raises(FilterError):
            parse_filter(opening * 100_000)
    for several in (" and ".join(["a = 1"] * MAX_VALUES), f"a in ({', '.join(['1'] * MAX_VALUES)})"):
        parse_filter(several)
        with pytest.raises(FilterError, match=rf"^character \d+: the filter holds more than {MAX_VALUES} values"):
            parse_filter(f"{several} or b = 1")


@pytest.mark.parametrize(
    ("text", "metadata", "expected"),
    [
        ('a = "x"', {"a": "x"}, True),
        ('a = "x"', {"a": "X"}, False),
        ('a = "x"', {"A": "x"}, False),
        ('a = "x"', {}, False),
        ('a != "x"', {"a": "y"}, True),
        ('a != "x"', {}, False),
        ('a != "x"', {"a": 1}, False),
        ('not a = "x"', {}, True),
        ('not a = "x"', {"a": 1}, True),
        ("a = 1", {"a": True}, False),
        ("a = true", {"a": 1}, False),
        ("a = 1", {"a": 1.0}, True),
        ("a < 2", {"a": "1"}, False),
        ("a >= -0.5", {"a": -0.5}, True),
        ('a < "b"', {"a": "B"}, True),
        ('a < "漢"', {"a": "é"}, True),
        ('a in ("x", "y")', {"a": "y"}, True),
        ("a in (1)", {"a": True}, False),
        ("not a in (1)", {}, True),
        ("a = 1 and not b = 1", {"a": 1}, True),
        ("a = 1 or b = 1", {"b": 1}, True),
        ("a < 0", {"a": -(10**400)}, True),
        ("a = 1e30", {"a": 10**30}, True),
        ("a = 9007199254740992", {"a": 2**53 + 1}, True),
        ("a = 9007199254740991", {"a": 2**53}, False),
    ],
)
def test_a_filter_selects_documents_by_their_metadata(text: str, metadata: dict[str, Any], expected: bool) -> None:
    assert matches(parse_filter(text), metadata) is expected


PARTS = (
    *("a", "lang", "`k`", "and", "or", "not", "in", "(", ")", ",", "=", "!=", "<", "<=", ">", ">=", "true", "false"),
    *(
        '"x"',
        '"\\""',
        '"\\\\"',
        '"',
        "`",
        "\\",
        "1",
        "-2.5",
        "1e9",
        "é",
        "٣",
        " ",
        "\n",
        "\x00",
        "\ud800",
        "'",
        ";",
        "🙂",
    ),
)


def some_text(choose: random.Random) -> str:
    """Returns random bytes, words in random order, or a filter with a few words replaced."""
    kind = choose.random()
    if kind < 0.2:
        return choose.randbytes(choose.randint(0, 40)).decode("latin-1")
    if kind < 0.5:
        return choose.choice(("", " ")).join(choose.choices(PARTS, k=choose.randint(0, 14)))
    words = ["not"] if kind < 0.6 else []
    for number in range(choose.randint(1, 5)):
        words += [choose.choice(("and", "or"))] if number else []
        words += [choose.choice(("a", "lang", "`k`")), "=", choose.choice(PARTS)]
    for _ in range(choose.randint(0, 2)):
        words[choose.randrange(len(words))] = choose.choice(PARTS)
    return " ".join(words)


def test_any_text_is_a_filter_or_a_filter_error_and_injects_nothing_into_milvus() -> None:
    choose = random.Random(7)
    parsed = 0
    for _ in range(20_000):
        text = some_text(choose)
        where, fault = parse(text)
        if where is None:
            assert "\n" not in fault
            continue
        parsed += 1
        assert isinstance(matches(where, {"a": 1, "lang": "x", "k": True}), bool)
        assert outside_quotes(expression("t", where)) <= MILVUS_WORDS, text
    assert parsed > 300


def parse(text: str) -> tuple[Filter | None, str]:
    try:
        return parse_filter(text), ""
    except FilterError as error:
        return None, str(error)


MILVUS_WORDS = {"tenant", "and", "or", "not", "exists", "$meta", "true", "false", "==", "!=", "<", "<=", ">", ">="}


def outside_quotes(compiled: str) -> set[str]:
    """Returns the words of an expression that are outside quotes, without brackets and numbers."""
    outside, inside, place = "", False, 0
    while place < len(compiled):
        if inside and compiled[place] == "\\":
            place += 1
        elif compiled[place] == '"':
            inside = not inside
        elif not inside:
            outside += compiled[place]
        place += 1
    assert not inside
    words = set(outside.translate(str.maketrans("()[],", "     ")).split())
    return {word for word in words if not word.lstrip("-").replace(".", "").replace("e", "").replace("+", "").isdigit()}
