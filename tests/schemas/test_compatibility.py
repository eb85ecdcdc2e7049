"""Changes of a schema that break a reader are named; compatible changes are not."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
from pydantic import Field

from schemas.compatibility import breaking_changes
from schemas.event import Event, JsonObject, Value
from schemas.generate import event_schema
from schemas.topics import EVENT_TYPES

OLD: JsonObject = {
    "type": "object",
    "required": ["id", "place"],
    "$defs": {
        "Place": {"type": "object", "title": "Place", "required": ["city"], "properties": {"city": {"type": "string"}}}
    },
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-z]+$"},
        "count": {"type": "integer", "minimum": 0, "maximum": 10, "default": 0},
        "state": {"enum": ["open", "closed"], "type": "string", "default": "open"},
        "note": {"anyOf": [{"type": "string", "maxLength": 100}, {"type": "null"}], "default": None},
        "place": {"$ref": "#/$defs/Place"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 5},
        "extra": {"type": "object", "additionalProperties": {"type": "number"}, "propertyNames": {"maxLength": 8}},
        "any": {},
        "at": {"type": "string", "format": "date-time"},
        "version": {"const": 1},
    },
}


def changed(path: str, value: Any) -> JsonObject:
    """Returns the schema with the value at a path such as ``properties/id`` replaced; None removes it."""
    schema = copy.deepcopy(OLD)
    *parents, last = path.split("/")
    place: Any = schema
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return schema


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("properties/note", None, "note: removed or renamed"),
        ("required", ["id", "place", "count"], "count: required now"),
        ("required", ["place"], "id: no longer required"),
        ("properties/id/type", "integer", "id: type changed from 'string' to 'integer'"),
        ("properties/id/minLength", 2, "id: minLength narrowed from 1 to 2"),
        ("properties/id/maxLength", 63, "id: maxLength narrowed from 64 to 63"),
        ("properties/id/maxLength", 65, "id: maxLength widened from 64 to 65"),
        ("properties/id/maxLength", None, "id: maxLength widened from 64 to None"),
        ("properties/id/pattern", "^[a-y]+$", "id: pattern changed"),
        ("properties/id/pattern", None, "id: pattern changed"),
        ("properties/any/type", "string", "any: type changed from None to 'string'"),
        ("properties/any/maxLength", 5, "any: maxLength narrowed from None to 5"),
        ("properties/count/minimum", 1, "count: minimum narrowed from 0 to 1"),
        ("properties/count/minimum", -1, "count: minimum widened from 0 to -1"),
        ("properties/count/maximum", 9, "count: maximum narrowed from 10 to 9"),
        ("properties/count/default", 1, "count: default changed from 0 to 1"),
        ("properties/count/multipleOf", 2, "count: multipleOf changed from None to 2"),
        ("properties/state/enum", ["open"], "state: 'closed' is no longer allowed"),
        ("properties/state/enum", ["open", "closed", "ajar"], "state: 'ajar' is new; older readers refuse it"),
        ("properties/state/enum", None, "state: enum changed"),
        ("properties/note/anyOf", [{"type": "string", "maxLength": 100}], "note: no longer takes null"),
        ("properties/note/anyOf/0/maxLength", 50, "note: maxLength narrowed from 100 to 50"),
        ("properties/note/anyOf/1/type", "integer", "note: no longer takes null"),
        ("properties/note", {"type": "string", "maxLength": 100, "default": None}, "note: no longer takes null"),
        ("properties/at", {"anyOf": [OLD["properties"]["at"], {"type": "null"}]}, "at: takes null now"),
        ("properties/at/format", "date", "at: format changed from 'date-time' to 'date'"),
        ("properties/version/const", 2, "version: const changed from 1 to 2"),
        ("properties/tags/items/maxLength", 8, "tags[items]: maxLength narrowed from 9 to 8"),
        ("properties/tags/maxItems", 4, "tags: maxItems narrowed from 5 to 4"),
        ("properties/extra/additionalProperties/type", "integer", "extra[additionalProperties]: type changed"),
        ("properties/extra/propertyNames/maxLength", 7, "extra[propertyNames]: maxLength narrowed from 8 to 7"),
        ("$defs/Place/properties/city", None, "place.city: removed or renamed"),
        ("$defs/Place/required", [], "place.city: no longer required"),
        ("$defs/Place/properties/city/maxLength", 5, "place.city: maxLength narrowed from None to 5"),
        ("additionalProperties", False, "[additionalProperties]: not changed from None to {}"),
        ("type", "array", "event: type changed"),
    ],
)
def test_a_change_that_breaks_readers_is_named(path, value, complaint):
    found = breaking_changes(OLD, changed(path, value))
    assert any(line.startswith(complaint) for line in found), found


def test_a_renamed_field_is_reported_as_removed():
    schema = changed("properties/note", None)
    schema["properties"]["remark"] = OLD["properties"]["note"]
    assert breaking_changes(OLD, schema) == ["note: removed or renamed"]


def test_a_new_required_field_breaks():
    schema = changed("properties/new", {"type": "string"})
    schema["required"] = ["id", "place", "new"]
    assert breaking_changes(OLD, schema) == ["new: required now; events without it exist"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/new", {"type": "string", "maxLength": 3}),
        ("$defs/Place/properties/street", {"type": "string"}),
        ("description", "Said in other words."),
        ("properties/id/description", "Said in other words."),
        ("title", "Renamed class"),
        ("required", ["place", "id"]),
        ("properties/state/enum", ["closed", "open"]),
        ("properties/note/anyOf", [{"type": "null"}, {"type": "string", "maxLength": 100}]),
    ],
)
def test_a_new_optional_field_or_a_new_description_breaks_nothing(path, value):
    assert breaking_changes(OLD, changed(path, value)) == []


def test_a_definition_may_move_without_changing():
    schema = changed("properties/place", OLD["$defs"]["Place"])
    del schema["$defs"]
    assert breaking_changes(OLD, schema) == []


def test_an_event_is_compatible_with_itself_but_not_after_a_field_is_removed():
    for event in EVENT_TYPES.values():
        schema = event_schema(event)
        assert breaking_changes(schema, copy.deepcopy(schema)) == []
        for field in schema["properties"]:
            poorer = copy.deepcopy(schema)
            del poorer["properties"][field]
            assert breaking_changes(schema, poorer) == [f"{field}: removed or renamed"]


class Part(Value):
    size: int = 0


class Before(Event):
    state: Literal["a", "b"] = "a"
    parts: tuple[Part, ...] = ()


class BiggerPart(Value):
    size: int = 0
    weight: float | None = None


class Grown(Event):
    state: Literal["a", "b"] = "a"
    parts: tuple[BiggerPart, ...] = ()
    note: str | None = None


class Broken(Event):
    state: Literal["a"] = "a"
    parts: tuple[Part, ...] = Field(min_length=1)


def test_classes_with_new_optional_fields_are_compatible():
    assert breaking_changes(event_schema(Before), event_schema(Grown)) == []


def test_classes_that_lost_a_value_or_a_default_are_incompatible():
    assert breaking_changes(event_schema(Before), event_schema(Broken)) == [
        "parts: required now; events without it exist",
        "parts: default changed from [] to None",
        "parts: minItems narrowed from None to 1",
        "state: const changed from None to 'a'",
        "state: enum changed from ['a', 'b'] to None",
    ]
