"""Builds the JSON Schema of each event, for programs that do not use these classes."""

from __future__ import annotations

from pydantic.json_schema import GenerateJsonSchema

from schemas.event import Event, JsonObject

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutFieldTitles(GenerateJsonSchema):
    """Leaves out the titles of fields, because pydantic only derives them from the fields' names."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def event_schema(event: type[Event]) -> JsonObject:
    """Returns the schema of an event's payload. Fields with a default are optional; unknown fields are ignored."""
    generated = event.model_json_schema(schema_generator=_WithoutFieldTitles)
    return {"$schema": DIALECT, "$id": f"urn:everlearn:schema:{event.type}", **generated}
