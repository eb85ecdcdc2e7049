"""Writes the generated contracts: ``python -m schemas.generate [--check] [--allow-breaking]``.

Other programs rely on the committed files, so a change that would break a reader is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic.json_schema import GenerateJsonSchema

from schemas.asyncapi import asyncapi_document
from schemas.compatibility import breaking_changes
from schemas.event import Event, JsonObject
from schemas.topics import EVENT_TYPES

FOLDER = Path(__file__).parent
JSON_FOLDER = "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutFieldTitles(GenerateJsonSchema):
    """Leaves out the titles of fields, because pydantic only derives them from the fields' names."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def event_schema(event: type[Event]) -> JsonObject:
    """Returns the schema of an event's payload. Fields with a default are optional; unknown fields are ignored."""
    generated = event.model_json_schema(schema_generator=_WithoutFieldTitles)
    return {"$schema": DIALECT, "$id": f"urn:everlearn:schema:{event.type}", **generated}


def generated_files() -> dict[str, str]:
    """Returns the text of each generated file by its path below ``schemas/``."""
    documents: dict[str, JsonObject] = {
        f"{JSON_FOLDER}/{name}.json": event_schema(event) for name, event in EVENT_TYPES.items()
    }
    documents["asyncapi.json"] = asyncapi_document()
    return {
        path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in sorted(documents.items())
    }


def stale_files(folder: Path = FOLDER) -> list[str]:
    """Returns the paths below the folder that are missing, differ from the generated text, or belong to no event."""
    files = generated_files()
    stale = [path for path, text in files.items() if _text(folder / path) != text]
    return sorted(stale + _orphans(folder))


def broken_contracts(folder: Path = FOLDER) -> list[str]:
    """Returns how the events in the code break the schemas in the folder, one change per line."""
    files = generated_files()
    broken = [f"{Path(path).stem}: removed or renamed" for path in _orphans(folder)]
    for path, text in files.items():
        committed = _text(folder / path)
        if path.startswith(JSON_FOLDER) and committed is not None:
            changes = breaking_changes(json.loads(committed), json.loads(text))
            broken += [f"{Path(path).stem}: {change}" for change in changes]
    return broken


def write_files(folder: Path = FOLDER) -> None:
    """Brings the folder up to date."""
    (folder / JSON_FOLDER).mkdir(parents=True, exist_ok=True)
    for path, text in generated_files().items():
        (folder / path).write_text(text, encoding="utf-8")
    for path in _orphans(folder):
        (folder / path).unlink()


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Runs the command. Returns 1 when --check finds a stale file, or when a breaking change is refused."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description="Writes the generated contracts.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if files are stale, and list them")
    parser.add_argument("--allow-breaking", action="store_true", help="write the files even if a change breaks readers")
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_files(folder)
        if stale:
            sys.stderr.write(f"stale: {', '.join(stale)}; run 'python -m schemas.generate'\n")
        return 1 if stale else 0
    broken = broken_contracts(folder)
    if broken and not options.allow_breaking:
        sys.stderr.write("".join(f"{line}\n" for line in broken))
        sys.stderr.write("refused: add an optional field or a v2 event instead, or give --allow-breaking\n")
        return 1
    write_files(folder)
    return 0


def _orphans(folder: Path) -> list[str]:
    return [
        f"{JSON_FOLDER}/{path.name}" for path in (folder / JSON_FOLDER).glob("*.json") if path.stem not in EVENT_TYPES
    ]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
