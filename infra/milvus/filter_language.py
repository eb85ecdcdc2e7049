"""Filters in Milvus' own language, and metadata as they need it. Whatever a user wrote stands inside quotes there.

Milvus compares values of different kinds in ways of its own (in Milvus Lite true equals 1), and a comparison with a key
that is missing is neither true nor false, so that its negation does not hold either. Therefore metadata are stored with
the kind in each key, and below a ``not`` each comparison asks first whether the key is there.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.filters import Both, Compare, Filter, FilterValue, In, Not, comparable, kind_of

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PREFIXES = {"text": "t:", "number": "n:", "true or false": "b:"}
_PREFIX_LENGTH = 2
METADATA = "$meta"
"""What Milvus calls the fields of a row that are not in the collection's schema."""


def literal(text: str) -> str:
    """A string in Milvus' filter language; whatever the text holds, it stays inside the quotes.

    Filter templates would be the library's way, but Milvus Lite 3.2 ignores them.
    """
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def expression(tenant: str, where: Filter | None) -> str:
    """The filter of every search, in Milvus' language: this is the one place that keeps tenants apart."""
    own = f"tenant == {literal(tenant)}"
    return own if where is None else f"{own} and ({_condition(where, sure=False)})"


def to_stored(metadata: Mapping[str, FilterValue]) -> dict[str, FilterValue]:
    """Metadata as fields of a row: ``{"year": 2024}`` is ``{"n:year": 2024}`` there."""
    return {_stored_key(key, value): comparable(value) for key, value in metadata.items()}


def from_stored(row: Mapping[str, FilterValue]) -> dict[str, FilterValue]:
    """The metadata among the fields of a row; no other field has a colon in its name."""
    prefixes = tuple(_PREFIXES.values())
    return {key[_PREFIX_LENGTH:]: value for key, value in row.items() if key.startswith(prefixes)}


def _condition(where: Filter, *, sure: bool) -> str:
    """``sure``: it must be true or false for every document, because it is negated."""
    match where:
        case Not(inner):
            return f"not ({_condition(inner, sure=True)})"
        case Both():
            parts = [f"({_condition(part, sure=sure)})" for part in _chain(where)]
            return (" or " if where.either else " and ").join(parts)
        case In(key, values):
            # Milvus Lite's own ``in`` takes fields of the schema only.
            found = " or ".join(_equals(key, value) for value in values)
            return f"{_exists(key, values[0])} and ({found})" if sure else found
        case Compare(key, operator, value):
            sign = "==" if operator == "=" else operator
            held = f"{_place(key, value)} {sign} {_written(value)}"
            return f"{_exists(key, value)} and {held}" if sure else held


def _chain(where: Both) -> list[Filter]:
    """The parts of ``a and b and c``, whose nesting would be too deep for Milvus Lite's parser."""
    parts: list[Filter] = []
    rest: Filter = where
    while isinstance(rest, Both) and rest.either == where.either:
        parts.append(rest.right)
        rest = rest.left
    return [rest, *reversed(parts)]


def _equals(key: str, value: FilterValue) -> str:
    return f"{_place(key, value)} == {_written(value)}"


def _exists(key: str, value: FilterValue) -> str:
    return f"exists {_place(key, value)}"


def _place(key: str, value: FilterValue) -> str:
    return f"{METADATA}[{literal(_stored_key(key, value))}]"


def _stored_key(key: str, value: FilterValue) -> str:
    return _PREFIXES[kind_of(value)] + key


def _written(value: FilterValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return literal(value) if isinstance(value, str) else repr(comparable(value))
