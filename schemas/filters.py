"""A small language to select documents by their metadata: ``lang = "en" and (year >= 2024 or draft = false)``.

    expression = term { "or" term }        term = factor { "and" factor }
    factor     = "not" factor | "(" expression ")" | key comparison
    comparison = ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value | "in" "(" value { "," value } ")"
    key        = a name of letters, digits, _ - and . that begins with a letter or _, or any text in backquotes
    value      = "text" with \\" and \\\\ inside | a number | true | false

Keywords are not case-sensitive; texts and keys are. A comparison is true only if the document has the key with a value
of the same kind: text, number, or true and false. So ``not`` also finds documents without the key, and ``!=`` does not.
Texts are ordered by code point. Whole numbers beyond 2**53 are compared as floating-point numbers. A key that contains
a backquote cannot be written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Literal

FilterValue = str | int | float | bool
Operator = Literal["=", "!=", "<", "<=", ">", ">="]
MAX_DEPTH = 20
MAX_VALUES = 64
"""The most values in one filter, in comparisons and lists together: each is compared with every chunk of the tenant."""
_LARGEST_INTEGER = 2**53
_LARGEST_NUMBER = sys.float_info.max


class FilterError(ValueError):
    """A filter cannot be parsed; the message says where, and what was expected."""


@dataclass(frozen=True)
class Compare:
    """Compares the value of a key with another value."""

    key: str
    operator: Operator
    value: FilterValue


@dataclass(frozen=True)
class In:
    """The value of a key is one of several values of the same kind."""

    key: str
    values: tuple[FilterValue, ...]


@dataclass(frozen=True)
class Not:
    inner: Filter


@dataclass(frozen=True)
class Both:
    """``and`` of two filters, or ``or`` if ``either`` is true."""

    left: Filter
    right: Filter
    either: bool = False


Filter = Compare | In | Not | Both

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\["\\])*")
    |(?P<quoted>`[^`]+`)
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[^\W\d][\w.\-]*)
    |(?P<sign><=|>=|!=|=|<|>|\(|\)|,)
    |(?P<end>$)
    )""",
    re.VERBOSE,
)
_HOLDS: dict[Operator, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def parse_filter(text: str) -> Filter:
    """Parses a filter. Raises FilterError."""
    return _Parser(text).whole()


def matches(condition: Filter, metadata: Mapping[str, FilterValue]) -> bool:
    """Returns whether a document with this metadata passes the filter."""
    match condition:
        case Not(inner):
            return not matches(inner, metadata)
        case Both(left, right, either):
            # The order of evaluation does not matter: nothing here fails.
            found = (matches(left, metadata), matches(right, metadata))
            return any(found) if either else all(found)
        case In(key, values):
            return any(matches(Compare(key, "=", value), metadata) for value in values)
        case Compare(key, operator, value):
            return key in metadata and _compare(metadata[key], operator, value)


def kind_of(value: FilterValue) -> str:
    """Returns ``text``, ``number`` or ``true or false``. Values of different kinds are never compared."""
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "number"


def comparable(value: FilterValue) -> FilterValue:
    """Returns the value as it is compared: a whole number beyond 2**53 as the nearest floating-point number."""
    if isinstance(value, str | float) or abs(value) <= _LARGEST_INTEGER:
        return value
    return float(max(-_LARGEST_NUMBER, min(_LARGEST_NUMBER, value)))


def _compare(left: FilterValue, operator: Operator, right: FilterValue) -> bool:
    return kind_of(left) == kind_of(right) and _HOLDS[operator](comparable(left), comparable(right))


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._place = 0
        self._values = 0

    def whole(self) -> Filter:
        found = self._either(0)
        if self._next.kind != "end":
            raise self._unexpected("'and', 'or' or the end")
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _either(self, depth: int) -> Filter:
        found = self._both(depth)
        while self._takes("or"):
            found = Both(found, self._both(depth), either=True)
        return found

    def _both(self, depth: int) -> Filter:
        found = self._factor(depth)
        while self._takes("and"):
            found = Both(found, self._factor(depth))
        return found

    def _factor(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise self._fault(self._next, f"the filter is nested more than {MAX_DEPTH} deep here")
        if self._takes("not"):
            return Not(self._factor(depth + 1))
        if self._takes("("):
            found = self._either(depth + 1)
            self._expect(")")
            return found
        return self._comparison()

    def _comparison(self) -> Filter:
        token = self._next
        if token.kind == "quoted":
            key = token.text[1:-1]
        elif token.kind == "word" and token.text.lower() not in ("and", "or", "not", "in", "true", "false"):
            key = token.text
        else:
            raise self._unexpected("a key of the metadata")
        self._place += 1
        if self._takes("in"):
            return self._list(key)
        for operator in _HOLDS:
            if self._takes(operator):
                compared, value = self._next, self._value()
                if isinstance(value, bool) and operator not in ("=", "!="):
                    raise self._fault(compared, f"true and false have no order: compare {key} by = or !=")
                return Compare(key, operator, value)
        raise self._unexpected("one of = != < <= > >= in")

    def _list(self, key: str) -> Filter:
        opened = self._next
        self._expect("(")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        self._expect(")")
        if len(kinds := {kind_of(value) for value in values}) > 1:
            raise self._fault(opened, f"{key} in (…) mixes {' and '.join(sorted(kinds))}: list values of one kind")
        return In(key, tuple(values))

    def _value(self) -> FilterValue:
        token = self._next
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._fault(token, f"the filter holds more than {MAX_VALUES} values")
        self._place += 1
        if token.kind == "text":
            return re.sub(r"\\(.)", r"\1", token.text[1:-1])
        if token.kind == "number":
            number = float(token.text)
            if number in (float("inf"), float("-inf")):
                raise self._fault(token, f"{token.text[:40]} is too large for a number")
            return int(token.text) if re.fullmatch(r"-?\d{1,18}", token.text) else number
        if token.kind == "word" and token.text.lower() in ("true", "false"):
            return token.text.lower() == "true"
        self._place -= 1
        raise self._unexpected('a "text", a number, true or false')

    def _takes(self, word: str) -> bool:
        token = self._next
        taken = token.kind in ("word", "sign") and token.text.lower() == word
        self._place += taken
        return taken

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            raise self._unexpected(repr(sign))

    def _unexpected(self, wanted: str) -> FilterError:
        token = self._next
        found = "the end" if token.kind == "end" else token.text[:40]
        return self._fault(token, f"expected {wanted}, found {found}")

    @staticmethod
    def _fault(token: _Token, what: str) -> FilterError:
        return FilterError(" ".join(f"character {token.at + 1}: {what}".split()))


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, place)
        if match is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            raise FilterError(f'character {at + 1}: {text[at : at + 20]!r} is no part of a filter; texts stand in "…"')
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match.group(kind), match.start(kind)))
        place = match.end()
    return tokens
