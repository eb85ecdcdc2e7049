"""Finds the changes of a JSON Schema that would break a reader.

Old and new programs run side by side during an update, and Kafka keeps old events. So new readers must accept what old
writers wrote, and old readers must accept what new writers write. The only compatible change of an event's fields is a
new optional field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

ANYTHING: Schema = {}
LOWER_BOUNDS = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
UPPER_BOUNDS = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
SUBSCHEMAS = ("items", "additionalProperties", "propertyNames")
COMPARED_ELSEWHERE = frozenset({"properties", "required", "anyOf", "enum", "default", *SUBSCHEMAS})
ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "$comment", "title", "description", "examples", "deprecated"})


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Returns the changes that would break a reader of either schema, one per line; empty when there are none."""
    return list(_compare("", old, new, old, new))


def _compare(path: str, old: Schema, new: Schema, old_root: Schema, new_root: Schema) -> Iterator[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    if old.get("default") != new.get("default"):
        yield f"{path or 'event'}: default changed from {old.get('default')!r} to {new.get('default')!r}"
    if "anyOf" in old or "anyOf" in new:
        yield from _compare_alternatives(path, old, new, old_root, new_root)
        return
    yield from _compare_keywords(path or "event", old, new)
    for keyword in SUBSCHEMAS:
        if keyword in old or keyword in new:
            inner = f"{path}[{keyword}]"
            yield from _compare(inner, _schema(old.get(keyword)), _schema(new.get(keyword)), old_root, new_root)
    before: Schema = old.get("properties", {})
    after: Schema = new.get("properties", {})
    for name in sorted(before.keys() | after.keys()):
        field = f"{path}.{name}" if path else name
        required = name in old.get("required", ()), name in new.get("required", ())
        if name not in after:
            yield f"{field}: removed or renamed"
        elif required == (False, True):
            yield f"{field}: required now; events without it exist"
        elif required == (True, False):
            yield f"{field}: no longer required; older readers refuse events without it"
        if name in before and name in after:
            yield from _compare(field, before[name], after[name], old_root, new_root)


def _compare_keywords(path: str, old: Schema, new: Schema) -> Iterator[str]:
    for keyword in sorted((old.keys() | new.keys()) - ANNOTATIONS - COMPARED_ELSEWHERE):
        before, after = old.get(keyword), new.get(keyword)
        if before == after:
            continue
        if keyword in LOWER_BOUNDS + UPPER_BOUNDS:
            yield f"{path}: {keyword} {_direction(keyword, before, after)} from {before} to {after}"
        else:
            yield f"{path}: {keyword} changed from {before!r} to {after!r}"
    if "enum" in old or "enum" in new:
        before, after = old.get("enum"), new.get("enum")
        if before is None or after is None:
            yield f"{path}: enum changed from {before} to {after}"
            return
        for value in before:
            if value not in after:
                yield f"{path}: {value!r} is no longer allowed"
        for value in after:
            if value not in before:
                yield f"{path}: {value!r} is new; older readers refuse it"


def _compare_alternatives(path: str, old: Schema, new: Schema, old_root: Schema, new_root: Schema) -> Iterator[str]:
    before, after = _alternatives(old, old_root), _alternatives(new, new_root)
    for kind, alternative in before.items():
        if kind in after:
            yield from _compare(path, alternative, after[kind], old_root, new_root)
        else:
            yield f"{path}: no longer takes {kind}"
    for kind in after:
        if kind not in before:
            yield f"{path}: takes {kind} now; older readers refuse it"


def _alternatives(schema: Schema, root: Schema) -> dict[str, Schema]:
    """Returns the alternatives by type. If several have the same type, the title is part of the key."""
    found: dict[str, Schema] = {}
    plain = {keyword: value for keyword, value in schema.items() if keyword != "default"}
    for alternative in schema.get("anyOf", (plain,)):
        resolved = _resolve(alternative, root)
        kind = str(resolved.get("type", "anything"))
        found[f"{kind} {resolved.get('title', '')}" if kind in found else kind] = resolved
    return found


def _direction(keyword: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "narrowed" if before is None else "widened"
    return "narrowed" if (after > before) == (keyword in LOWER_BOUNDS) else "widened"


def _schema(value: Schema | bool | None) -> Schema:
    """Returns a subschema as an object. A missing one and ``true`` allow anything; ``false`` allows nothing."""
    if value is None or value is True:
        return ANYTHING
    return {"not": {}} if value is False else value


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Returns the schema that a local ``$ref`` points at, merged with the keywords beside the reference."""
    if "$ref" not in schema:
        return schema
    target: Any = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    beside = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    return {**_resolve(target, root), **beside}
