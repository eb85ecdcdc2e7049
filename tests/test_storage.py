"""docs/storage.md is complete: every table, every setting of [retention] with its default, every cleaner's owner."""

from __future__ import annotations

import re
from pathlib import Path

from agents.wiring.run import AGENTS
from infra.sql.tables import METADATA
from schemas.policies import RetentionPolicy

TEXT = (Path(__file__).parents[1] / "docs" / "storage.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("## Everything that is kept")[2].partition("\n## ")[0]


def test_every_table_of_the_database_is_in_it() -> None:
    named = set(re.findall(r"`([a-z_]+)`", TABLE))
    assert METADATA.tables.keys() - named == set()


def test_every_setting_is_in_it_with_its_default() -> None:
    defaults = {name: field.default for name, field in RetentionPolicy.model_fields.items()}
    assert {name: f"`{name}`" in TEXT for name in defaults} == dict.fromkeys(defaults, True)
    shown = {name: float(value) for name, value in re.findall(r"`([a-z_]+)`[^|]*? \(([0-9.]+)\)", TABLE)}
    assert {name: shown[name] for name in defaults if name in shown} == {
        name: float(default) for name, default in defaults.items() if name in shown
    }
    assert len(shown.keys() & defaults.keys()) == len(defaults)


def test_whoever_deletes_something_is_an_agent_or_a_part_of_the_stack() -> None:
    cells = [line.strip("|").split("|")[-1].strip() for line in TABLE.splitlines() if line.startswith("| ")][1:]
    others = {"–", "every agent", "the run's agent", "the worker's agent", "Kafka", "supervisor", "command line"}
    known = {*AGENTS, *others, "whoever writes there next"}
    assert {cell.partition(",")[0] for cell in cells} <= known
