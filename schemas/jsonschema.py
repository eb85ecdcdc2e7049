"""The JSON Schema of each event, for programs that do not use these classes."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas.event import Event

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutFieldTitles(GenerateJsonSchema):
    """A title made from a field's name says nothing that the name does not."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def event_schema(event: type[Event]) -> dict[str, Any]:
    """The schema of what may be written: fields with a default may be left out, and unknown ones are ignored."""
    generated = event.model_json_schema(schema_generator=_WithoutFieldTitles)
    return {"$schema": DIALECT, "$id": f"urn:everlearn:schema:{event.type}", **generated}
