"""Filters in Milvus' own language. Whatever a user wrote reaches it inside quotes only."""

from __future__ import annotations

from schemas.filters import Both, Compare, Filter, In, Not, Value

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def literal(text: str) -> str:
    """A string in Milvus' filter language; whatever the text holds, it stays inside the quotes.

    Filter templates would be the library's way, but Milvus Lite 3.2 ignores them.
    """
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def expression(tenant: str, where: Filter | None) -> str:
    """The filter of every search, in Milvus' language: this is the one place that keeps tenants apart."""
    own = f"tenant == {literal(tenant)}"
    return own if where is None else f"{own} and ({_condition(where)})"


def _condition(where: Filter) -> str:
    match where:
        case Not(inner):
            return f"not ({_condition(inner)})"
        case Both(left, right, either):
            return f"({_condition(left)}) {'or' if either else 'and'} ({_condition(right)})"
        case In(key, values):
            return f"{_key(key)} in [{', '.join(map(_value, values))}]"
        case Compare(key, operator, value):
            return f"{_key(key)} {'==' if operator == '=' else operator} {_value(value)}"


def _key(key: str) -> str:
    return f"metadata[{literal(key)}]"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return literal(value) if isinstance(value, str) else repr(value)
