"""``everlearn tasks`` names every fault at once, and adds without touching what somebody wrote."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from agents.cli.main import execute
from agents.cli.tasks import find_faults
from infra.settings import load
from infra.settings_file import append_task

SOUND = """# my tasks
[tasks.support]
instruction = "Answer from the documents."  # kept short
retrieval = true
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "everlearn.toml").write_text(SOUND)
    return tmp_path


LABELS = ["Yes", "yes ", "café, tea", "a\nb", "café", "cafe\u0301"]


def faults(**tables):
    return find_faults(tables, {}, chunk_tokens=220, context_tokens=1400)


def test_sound_tasks_have_no_fault():
    assert (
        faults(
            support={"instruction": "Answer.", "retrieval": True, "top_k": 4},
            routing={"instruction": "Route.", "metric": "exact_match", "labels": ["a", "b"]},
        )
        == []
    )


def test_an_instruction_that_leaves_no_room_for_a_question_is_a_fault(home: Path, capsys, model_settings, monkeypatch):
    labels = [f"label number {number}" for number in range(900)]
    append_task(home / "everlearn.toml", "routing", {"instruction": "Route.", "labels": labels})
    monkeypatch.setenv("EVERLEARN_MODEL_FOLDER", str(model_settings.models_folder))

    assert execute(["--home", str(home), "tasks", "check"]) == 1

    (fault,) = capsys.readouterr().out.splitlines()
    assert re.search(
        r"tasks.routing.instruction: and its 900 labels take \d+ tokens, and \[answerer\] context_tokens = 1400 leaves "
        r"no room for a question: shorten it, or raise the setting",
        fault,
    )


def test_every_fault_of_every_task_is_named_at_once():
    found = faults(
        a={
            "instruction": "x",
            "top_kk": 3,
            "max_tokens": 0,
            "metric": "exactmatch",
            "labels": ["Yes", "yes ", "café, tea", "a\nb", "café", "cafe\u0301"],
        },
        b={"retrieval": True, "top_k": 10},
        c="not a table",
        d={"instruction": " ", "top_k": 3},
    )
    assert found == [
        "tasks.a.top_kk: unknown setting; did you mean top_k?",
        "tasks.a.max_tokens: Input should be greater than or equal to 1",
        "tasks.a.metric: 'exactmatch' is unknown; did you mean exact_match?",
        "tasks.a.labels: 'yes', 'café' stand there more than once (case is ignored)",
        "tasks.a.labels: 'café, tea', 'a\\nb' must not hold a comma or a line break: rename",
        "tasks.b.instruction: is missing",
        "tasks.b.top_k: 10 chunks of 220 tokens are more than [answerer] context_tokens = 1400: "
        "lower one or raise the other",
        "tasks.c: is not a table: write [tasks.c]",
        "tasks.d.instruction: is empty",
        "tasks.d.top_k: has no effect without retrieval = true",
    ]


def test_a_tasks_own_policies_are_checked_with_the_rest_of_the_file():
    tasks = {
        "a": {"instruction": "x", "trainer": {"epochs": 0, "epocs": 2, "threads": 2}, "monitor": {"flags": 4}},
        "b": {"instruction": "x", "trainr": {}, "quantizer": {"schemes": []}, "promoter": 3},
        "c": {"instruction": "x", "promoter": {"shares": [0.5, 0.1]}, "monitor": {"flags": 4, "of": 5}},
    }
    tables = {"monitor": {"of": 3}}
    found = find_faults(tasks, tables, chunk_tokens=220, context_tokens=1400)
    assert found == [
        "tasks.a.trainer.epocs: unknown setting; did you mean epochs?",
        "tasks.a.trainer.threads: holds for all tasks of a process: set it in [trainer]",
        "tasks.a.trainer.epochs: Input should be greater than 0",
        "tasks.a.monitor: flags = 4 of 3 windows can never be: set flags to 3 or less",
        "tasks.b.trainr: unknown setting; did you mean trainer?",
        "tasks.b.quantizer: cannot be set for a task, only monitor, trainer, validator, promoter can",
        "tasks.b.promoter: is not a table: write [tasks.NAME.promoter]",
        "tasks.c.promoter: shares is [0.5, 0.1]: give rising shares of the users, such as [0.1, 0.5]",
    ]


def test_check_names_a_wrong_override_once_and_counts_what_the_file_says(home: Path, capsys):
    (home / "everlearn.toml").write_text(
        SOUND + "[tasks.support.monitor]\nflags = 4\n[tasks.support.trainer]\nrank = 0\n[monitor]\nof = 5\n"
    )
    assert execute(["tasks", "check", "--json", "--home", str(home)]) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["faults"] == ["tasks.support.trainer.rank: Input should be greater than or equal to 1"]


def test_no_task_at_all_is_a_fault():
    assert "no task is configured" in faults()[0]


def test_a_bad_task_name_is_a_fault():
    assert faults(**{"a/b": {"instruction": "x"}})[0].startswith("tasks.a/b.name: takes 1 to 64 letters")


def test_check_passes_a_sound_file(home: Path, capsys):
    assert execute(["--home", str(home), "tasks", "check"]) == 0
    assert "1 task, no fault" in capsys.readouterr().out


def test_check_names_faults_inside_and_outside_the_tasks(home: Path, capsys):
    (home / "everlearn.toml").write_text(SOUND + "topk = 3\n[indexer]\nchunk_tokns = 5\n")
    assert execute(["tasks", "check", "--json", "--home", str(home)]) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["faults"] == [
        "tasks.support.topk: unknown setting; did you mean top_k?",
        "indexer.chunk_tokns: Extra inputs are not permitted",
    ]


def test_check_of_a_home_without_a_file_says_what_to_do(tmp_path: Path, capsys):
    assert execute(["--home", str(tmp_path), "tasks", "check"]) == 1
    assert capsys.readouterr().err == f"error: there is no {tmp_path}/everlearn.toml: run 'everlearn init' first\n"


def test_check_of_broken_toml_gives_the_line(home: Path, capsys):
    (home / "everlearn.toml").write_text("[tasks.support\n")
    assert execute(["--home", str(home), "tasks", "check"]) == 1
    error = capsys.readouterr().err
    assert "is not valid TOML" in error
    assert "line 1" in error


def test_list_shows_each_task(home: Path, capsys):
    assert execute(["--home", str(home), "tasks", "list"]) == 0
    assert "support  yes" in capsys.readouterr().out
    assert execute(["--home", str(home), "tasks", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "support"
    assert not {"monitor", "trainer", "validator", "promoter"} & set(shown)


def test_list_shows_what_a_task_overrides(home: Path, capsys):
    (home / "everlearn.toml").write_text(SOUND + "[tasks.support.trainer]\nepochs = 5\n")
    assert execute(["--home", str(home), "tasks", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["trainer"] == {"epochs": 5}
    assert not {"monitor", "validator", "promoter"} & set(shown)


def test_an_added_task_is_read_back_and_the_comments_stay(home: Path, capsys):
    instruction = 'Say "yes" or \\no\\,\nplease. Ünïcode\x7f'
    arguments = ["tasks", "add", "senti.ment", "--instruction", instruction, "--metric", "exact_match"]
    assert execute(["--home", str(home), *arguments, "--label", "yes", "--label", "no", "--max-tokens", "3"]) == 0
    text = (home / "everlearn.toml").read_text()
    assert text.startswith(SOUND)
    task = load(home, environ={}).tasks["senti.ment"]
    assert (task.instruction, task.labels, task.max_tokens) == (instruction, ("yes", "no"), 3)
    assert execute(["--home", str(home), "tasks", "check"]) == 0


def test_an_added_task_may_search_in_its_own_way_and_have_an_index_of_its_own(home: Path, capsys):
    options = ["--mode", "text", "--floor", "0.3", "--chunk-tokens", "64", "--overlap-tokens", "0", "--retrieval"]
    assert execute(["--home", str(home), "tasks", "add", "own", "--instruction", "x", *options]) == 0
    task = load(home, environ={}).tasks["own"]
    assert (task.mode, task.floor, task.chunk_tokens, task.overlap_tokens) == ("text", 0.3, 64, 0)
    assert execute(["--home", str(home), "tasks", "check"]) == 0


def test_settings_of_a_search_that_contradict_each_other_are_faults():
    assert faults(
        a={"instruction": "x", "mode": "text", "floor": 0.5, "chunk_tokens": 64, "unknown": "No."},
        b={"instruction": "x", "retrieval": True, "overlap_tokens": 10},
        c={
            "instruction": "x",
            "retrieval": True,
            "chunk_tokens": 64,
            "overlap_tokens": 64,
            "unknown": "No.",
            "floor": 0,
        },
        d={"instruction": "x", "retrieval": True, "chunk_tokens": 500},
        e={"instruction": "x", "retrieval": True, "mode": "fast", "floor": 2},
        f={"instruction": "x", "retrieval": True, "top_k": 10, "chunk_tokens": 100, "overlap_tokens": 0},
    ) == [
        *(f"tasks.a.{each}: has no effect without retrieval = true" for each in ("mode", "floor", "unknown")),
        "tasks.a.chunk_tokens: has no effect without retrieval = true",
        "tasks.b.overlap_tokens: has no effect without chunk_tokens, which gives the task an index of its own",
        "tasks.c.overlap_tokens: is as long as a chunk of 64 tokens: lower it",
        "tasks.c.unknown: has no effect without a floor above 0",
        "tasks.d.top_k: 4 chunks of 500 tokens are more than [answerer] context_tokens = 1400: "
        "lower one or raise the other",
        "tasks.e.mode: Input should be 'dense', 'text' or 'hybrid'",
        "tasks.e.floor: Input should be less than or equal to 1",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["support", "--instruction", "x"], "the task 'support' is in"),
        (["a/b", "--instruction", "x"], "name: takes 1 to 64 letters"),
        (["new", "--instruction", ""], "instruction: is empty"),
        (["new", "--instruction", "x", "--label", "a", "--label", "A"], "'a' stand there more than once"),
        (["new", "--instruction", "x", "--top-k", "3"], "has no effect without retrieval"),
        (["new", "--instruction", "x", "--metric", "luck"], "'luck' is not one of"),
        (["new"], "Missing option '--instruction'"),
    ],
)
def test_a_wrong_addition_is_refused_and_the_file_stays(home: Path, capsys, arguments: list[str], message: str):
    assert execute(["--home", str(home), "tasks", "add", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert (home / "everlearn.toml").read_text() == SOUND


def test_a_file_that_cannot_be_extended_is_left_alone(home: Path, capsys):
    text = 'tasks = {support = {instruction = "x"}}\n'
    (home / "everlearn.toml").write_text(text)
    assert execute(["--home", str(home), "tasks", "add", "new", "--instruction", "x"]) == 1
    assert "cannot be extended" in capsys.readouterr().err
    assert (home / "everlearn.toml").read_text() == text


def test_a_file_that_is_a_folder_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "everlearn.toml").mkdir()
    assert execute(["--home", str(tmp_path), "tasks", "check"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/everlearn.toml cannot be read: Is a directory\n"


@pytest.mark.parametrize(
    "value", ["a", 'q"uo\\te', "line\nbreak\ttab\x00\x1f\x7f", "é😀\u2028", True, 3, 0.25, ["a", "b"]]
)
def test_values_survive_toml(home: Path, value):
    append_task(home / "everlearn.toml", "new one", {"x": value})
    text = (home / "everlearn.toml").read_text()
    assert text.startswith(SOUND)
    assert tomllib.loads(text)["tasks"]["new one"]["x"] == value


def test_an_added_task_leaves_the_comments_of_the_tables_around_it_where_they_are(home: Path):
    text = SOUND + "\n# about the indexer\n[indexer]\nbatch = 8 # small"
    (home / "everlearn.toml").write_text(text)
    append_task(home / "everlearn.toml", "new", {"instruction": "x"})
    assert (home / "everlearn.toml").read_text() == text + '\n\n[tasks.new]\ninstruction = "x"\n'
