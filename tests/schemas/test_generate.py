"""The committed contracts are up to date, and a change that breaks a reader is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from schemas.generate import FOLDER, broken_contracts, generated_files, main, stale_files, write_files
from schemas.topics import EVENT_TYPES

SUBMITTED = "json/everlearn.document.submitted.v1.json"


@pytest.fixture
def folder(tmp_path):
    write_files(tmp_path)
    return tmp_path


def change(folder, **fields):
    """Adds fields to the committed schema, as if they had since been removed from the code."""
    path = folder / SUBMITTED
    schema = json.loads(path.read_text())
    schema["properties"] |= fields
    path.write_text(json.dumps(schema))


def test_no_event_breaks_its_committed_schema():
    assert broken_contracts() == []


def test_committed_contracts_are_up_to_date():
    assert stale_files() == [], "run 'python -m schemas.generate' and commit what it writes"


def test_each_event_has_a_valid_schema_with_its_own_id():
    ids = set()
    for event_type in EVENT_TYPES:
        schema = json.loads((FOLDER / "json" / f"{event_type}.json").read_text())
        Draft202012Validator.check_schema(schema)
        ids.add(schema["$id"])
    assert ids == {f"urn:everlearn:schema:{event_type}" for event_type in EVENT_TYPES}


def test_generating_twice_gives_the_same_bytes():
    assert generated_files() == generated_files()


def test_check_passes_for_current_files_and_names_stale_ones(folder, capsys):
    assert main(["--check"], folder) == 0
    (folder / "asyncapi.json").write_text("{}")
    (folder / SUBMITTED).unlink()
    (folder / "json" / "everlearn.nobody.v1.json").write_text("{}")
    assert main(["--check"], folder) == 1
    assert capsys.readouterr().err == (
        f"stale: asyncapi.json, {SUBMITTED}, json/everlearn.nobody.v1.json; run 'python -m schemas.generate'\n"
    )
    assert (folder / "asyncapi.json").read_text() == "{}"


def test_stale_files_with_compatible_changes_are_written(folder):
    path = folder / SUBMITTED
    path.write_text(json.dumps(json.loads(path.read_text()) | {"description": "Said otherwise."}))
    (folder / "asyncapi.json").unlink()
    assert main([], folder) == 0
    assert stale_files(folder) == []


def test_a_breaking_change_is_refused_unless_it_is_allowed(folder, capsys):
    change(folder, author={"type": "string"})
    before = (folder / SUBMITTED).read_text()
    assert main([], folder) == 1
    refusal = capsys.readouterr().err
    assert "everlearn.document.submitted.v1: author: removed or renamed\n" in refusal
    assert (folder / SUBMITTED).read_text() == before
    assert main(["--allow-breaking"], folder) == 0
    assert stale_files(folder) == []


def test_a_removed_event_is_a_breaking_change(folder):
    orphan = folder / "json" / "everlearn.document.burned.v1.json"
    orphan.write_text("{}")
    assert broken_contracts(folder) == ["everlearn.document.burned.v1: removed or renamed"]
    assert main([], folder) == 1
    assert orphan.exists()
    assert main(["--allow-breaking"], folder) == 0
    assert not orphan.exists()


def test_the_check_runs_as_a_module():
    run = subprocess.run([sys.executable, "-m", "schemas.generate", "--check"], cwd=FOLDER.parent, capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
