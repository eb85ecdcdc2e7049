"""``everlearn datasets``: what a dataset holds by user and origin, and what was left out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from infra.settings import Settings
from infra.sql.database import Database
from infra.training.datasets import FolderDatasets
from schemas.datasets import DatasetRow, QuarantinedRow
from tests.agents.cli.conftest import Everlearn

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(number: int, **changes: object) -> DatasetRow:
    made = DatasetRow(
        row_id=f"r{number}", input=f"message {number}", output="skates", origin="correction", origin_id=f"a{number}",
        at=NOW, split="train", user="ann", tenant="shop", trust="owner", why="corrected by ann (owner)",
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]  # of a row's fields


ROWS = [
    row(1),
    row(2, user="session:s1"),
    row(3, split="holdout"),
    row(4, origin="example", user=None, tenant=None, trust=None, why="example"),
    row(5, origin="example", user=None, tenant=None, trust=None, split="golden", why="example"),
]
OUT = [
    *(
        QuarantinedRow(reason="user_share", row=row(number, user="\x1b[2Jmallory\r\n\rlabel"))
        for number in range(10, 15)
    ),
    QuarantinedRow(reason="label", row=row(20, output="nonsense", user="ann\nlabel")),
]


@pytest.fixture
def dataset_id(settings: Settings, database_url: str) -> str:
    database = Database(database_url)
    store = FolderDatasets(settings.datasets_folder, database)
    store.put("support", ROWS[:1], created_at=NOW - timedelta(days=1))
    manifest = store.put("routing", ROWS, created_at=NOW, quarantined=OUT)
    database.close()
    return manifest.dataset_id


def test_datasets_are_listed_newest_first_with_what_was_left_out(everlearn: Everlearn, dataset_id: str):
    found = [json.loads(line) for line in everlearn("datasets", "list", "--json").out.splitlines()]

    assert [(each["task"], each["rows"]) for each in found] == [("routing", 5), ("support", 1)]
    assert found[0]["dataset_id"] == dataset_id
    table = everlearn("datasets", "list", "routing").out.splitlines()
    assert len(table) == 2
    assert table[1].split()[-1] == "6"


def test_a_dataset_is_one_object_with_its_rows_users_origins_and_what_was_left_out(
    everlearn: Everlearn, dataset_id: str
):
    shown = json.loads(everlearn("datasets", "show", dataset_id[:6], "--json").out)

    assert (shown["rows"], shown["train_rows"], shown["holdout_rows"], shown["golden_rows"]) == (5, 3, 1, 1)
    assert shown["by_user"] == {"ann": 2, "session:s1": 1}
    assert shown["by_origin"] == {"correction": 3, "example": 2}
    assert shown["by_tenant"] == {"shop": 3}
    assert shown["quarantined"] == {"user_share": 5, "label": 1}


def test_the_report_says_it_in_words_shows_some_of_the_rows_and_no_control_characters(
    everlearn: Everlearn, dataset_id: str
):
    text = everlearn("datasets", "show", dataset_id).out

    assert "5 above a user's share" in text
    assert "1 with an answer that is none of the task's labels" in text
    assert text.count("mallory") == 3
    assert not {"\x1b", "\r"} & set(text)
    assert all("user_share" in line for line in text.splitlines() if "mallory" in line), "a row is one line"


def test_all_rows_are_listed_on_request_each_with_its_reason(everlearn: Everlearn, dataset_id: str):
    rows = [json.loads(line) for line in everlearn("datasets", "show", dataset_id, "--rows", "--json").out.splitlines()]
    out = everlearn("datasets", "show", dataset_id, "--quarantined", "--json").out.splitlines()

    assert {each["why"] for each in rows} == {"corrected by ann (owner)", "example"}
    assert [json.loads(line)["reason"] for line in out] == ["user_share"] * 5 + ["label"]
    assert "corrected by ann (owner)" in everlearn("datasets", "show", dataset_id, "--rows").out
    assert everlearn("datasets", "show", dataset_id, "--quarantined").out.count("\n") == 7


def test_an_older_dataset_than_those_that_are_listed_is_found_by_its_whole_id(
    everlearn: Everlearn, dataset_id: str, monkeypatch: pytest.MonkeyPatch
):
    older = json.loads(everlearn("datasets", "list", "support", "--json").out)["dataset_id"]
    monkeypatch.setattr("agents.cli.datasets.MOST", 1)

    assert json.loads(everlearn("datasets", "show", older, "--json").out)["task"] == "support"
    assert everlearn("datasets", "show", older[:6]).code != 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "nonsense"), "there is no dataset 'nonsense': see 'everlearn datasets list'"),
        (("show", ""), "there is no dataset ''"),
        (("list", "nonsense"), "there is no task 'nonsense'"),
    ],
)
def test_what_is_not_there_is_one_clear_line(
    everlearn: Everlearn, dataset_id: str, arguments: tuple[str, ...], words: str
):
    ended = everlearn("datasets", *arguments)

    assert ended.code != 0
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
