"""Translates filters into Milvus' filter language, and metadata into fields that the filters can use.

Text of a user always stands inside quotes.

Milvus compares values of different kinds in its own way: in Milvus Lite, true equals 1. So the key of each metadata
field names the kind of its value. A comparison with a missing key is neither true nor false, and neither is its
negation. So below a ``not`` each comparison first tests whether the key exists.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.filters import Both, Compare, Filter, FilterValue, In, Not, comparable, kind_of

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PREFIXES = {"text": "t:", "number": "n:", "true or false": "b:"}
_PREFIX_LENGTH = 2
METADATA = "$meta"
"""Milvus' name for the fields of a row that are not in the collection's schema."""


def literal(text: str) -> str:
    """Quotes a string for Milvus' filter language, whatever it holds.

    Filter templates would do this, but Milvus Lite 3.2 ignores them.
    """
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def expression(tenant: str, where: Filter | None) -> str:
    """Returns the filter of a search in Milvus' language. This is the only place that separates tenants."""
    own = f"tenant == {literal(tenant)}"
    return own if where is None else f"{own} and ({_condition(where, sure=False)})"


def to_stored(metadata: Mapping[str, FilterValue]) -> dict[str, FilterValue]:
    """Returns metadata as fields of a row: ``{"year": 2024}`` becomes ``{"n:year": 2024}``."""
    return {_stored_key(key, value): comparable(value) for key, value in metadata.items()}


def from_stored(row: Mapping[str, FilterValue]) -> dict[str, FilterValue]:
    """Returns the metadata among the fields of a row; no other field has a colon in its name."""
    prefixes = tuple(_PREFIXES.values())
    return {key[_PREFIX_LENGTH:]: value for key, value in row.items() if key.startswith(prefixes)}


def _condition(where: Filter, *, sure: bool) -> str:
    """``sure``: the result must be true or false for every document, because it is negated."""
    match where:
        case Not(inner):
            return f"not ({_condition(inner, sure=True)})"
        case Both():
            parts = [f"({_condition(part, sure=sure)})" for part in _chain(where)]
            return (" or " if where.either else " and ").join(parts)
        case In(key, values):
            # Milvus Lite supports ``in`` for fields of the schema only.
            found = " or ".join(_equals(key, value) for value in values)
            return f"{_exists(key, values[0])} and ({found})" if sure else found
        case Compare(key, operator, value):
            sign = "==" if operator == "=" else operator
            held = f"{_place(key, value)} {sign} {_written(value)}"
            return f"{_exists(key, value)} and {held}" if sure else held


def _chain(where: Both) -> list[Filter]:
    """Returns the parts of ``a and b and c``, because nested they can be too deep for Milvus Lite's parser."""
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
