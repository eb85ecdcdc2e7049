"""``everlearn init``: the home folder and its commented configuration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from agents.cli.init import initialise, render
from agents.cli.main import execute
from infra.settings import TABLES, Settings, load
from schemas.errors import ConfigurationError
from schemas.policies import IndexerSettings, KafkaSettings


def test_a_new_home_has_two_tasks_and_every_default(tmp_path: Path):
    initialise(tmp_path / "home")
    made = load(tmp_path / "home", environ={})
    assert made.model_copy(update={"tasks": {}, "config": None}) == Settings(home=tmp_path / "home")
    assert (made.tasks["support"].retrieval, made.tasks["routing"].retrieval) == (True, False)
    assert made.tasks["routing"].metric == "exact_match"
    assert made.tasks["routing"].labels


def test_every_commented_setting_may_be_uncommented(tmp_path: Path):
    lines = render().splitlines()
    lines = [line[1:] if re.match(r"#(\[|[a-z])", line) else line for line in lines]

    path = tmp_path / "everlearn.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    uncommented = load(tmp_path, environ={})
    assert uncommented.indexer == IndexerSettings()
    assert uncommented.kafka == KafkaSettings()
    assert (uncommented.trainer.epochs, uncommented.trainer_policy("routing").epochs) == (3, 5)


def test_every_setting_but_the_secrets_is_in_the_file_with_its_docs():
    text = render()
    tables = tomllib.loads(text)
    for name, table in TABLES.items():
        assert name in tables
        for setting, each in table.model_fields.items():
            secret = "SecretStr" in str(each.annotation)
            shown = f"\n#{setting} = " in text or f"\n# {setting}: unset by default\n" in text
            assert shown is not secret
            assert each.description, f"[{name}] {setting} has no text below it that says what it is"
            first_words = each.description.replace("``", "'").split()[:3]
            assert " ".join(first_words) in text


def test_init_leaves_what_exists_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert execute(["--home", str(tmp_path / "h"), "init"]) == 0
    (tmp_path / "h" / "everlearn.toml").write_text("# mine\n")
    assert execute(["--home", str(tmp_path / "h"), "init"]) == 1
    assert "is there already: edit it" in capsys.readouterr().err
    assert (tmp_path / "h" / "everlearn.toml").read_text() == "# mine\n"


def test_init_where_nothing_can_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written .*choose another --home"):
        initialise(tmp_path / "file" / "home")
