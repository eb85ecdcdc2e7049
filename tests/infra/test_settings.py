"""Settings: where a value comes from, what a task overrides, and that every fault is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.settings import Settings, WrongSettings, load
from schemas.errors import ConfigurationError
from schemas.models import unknown_schemes
from schemas.policies import MonitorPolicy, PromoterPolicy, QuantizerPolicy
from schemas.tasks import Task

TASK = '[tasks.routing]\ninstruction = "Route."\n'


def written(home: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    (home / "everlearn.toml").write_text(text)
    return load(home, environ=environ or {})


def faults(home: Path, text: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(WrongSettings) as caught:
        written(home, text, environ)
    assert str(caught.value).startswith(f"{home}/everlearn.toml: ")
    return caught.value.faults


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path):
    environ = {"EVERLEARN_TRAINER_EPOCHS": "7", "EVERLEARN_TRAINER_RANK": ""}
    settings = written(tmp_path, "[trainer]\nepochs = 2\nrank = 4\n", environ)
    assert (settings.trainer.epochs, settings.trainer.rank, settings.trainer.batch_rows) == (7, 4, 8)


def test_every_fault_is_named_at_once_with_its_table_and_setting(tmp_path: Path):
    text = '[trainer]\nepocs = 2\n[monitor]\nflags = 4\n[kafka]\nsasl_password = "x"\n' + TASK + "top_k = 0\n"
    assert faults(tmp_path, text + "[tasks.routing.trainer]\nepochs = 0\n", {"EVERLEARN_ANSWERER_BATCH": "many"}) == (
        "[kafka] sasl_password is a secret: set EVERLEARN_KAFKA_SASL_PASSWORD instead",
        "answerer.batch: Input should be a valid integer, unable to parse string as an integer",
        "[monitor] flags = 4 of 3 windows can never be: set flags to 3 or less",
        "trainer.epocs: Extra inputs are not permitted",
        "tasks.routing.top_k: Input should be greater than or equal to 1",
        "tasks.routing.trainer.epochs: Input should be greater than 0",
    )


def test_a_secret_comes_from_the_environment(tmp_path: Path):
    settings = written(tmp_path, "", {"EVERLEARN_MILVUS_TOKEN": "t"})
    assert settings.milvus.token is not None
    assert settings.milvus.token.get_secret_value() == "t"


def test_of_very_many_faults_the_first_are_told(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"s19: .*; and 5 more$"):
        written(tmp_path, "".join(f"s{number:02} = 1\n" for number in range(25)))


def test_a_task_overrides_some_settings_of_a_policy_and_keeps_the_others(tmp_path: Path):
    text = "[trainer]\nrank = 4\n[monitor]\nof = 5\n" + TASK + (
        "[tasks.routing.trainer]\nepochs = 5\n[tasks.routing.monitor]\nflags = 4\n"
        "[tasks.routing.promoter]\nshares = [0.3]\n[tasks.routing.validator]\nmin_gain = 0.1\n"
        '[tasks.other]\ninstruction = "x"\n'
    )  # fmt: skip
    settings = written(tmp_path, text, {"EVERLEARN_TRAINER_SEED": "3"})
    own = settings.trainer_policy("routing")
    assert (own.epochs, own.rank, own.seed, own.batch_rows) == (5, 4, 3, 8)
    assert (settings.monitor_policy("routing").flags, settings.monitor_policy("routing").of) == (4, 5)
    assert settings.promoter_policy("routing") == PromoterPolicy(shares=(0.3,))
    assert settings.validator_policy("routing").min_gain == 0.1
    for task in ("other", "one that is gone"):
        assert settings.trainer_policy(task) == settings.trainer
        assert settings.monitor_policy(task) == settings.monitor
        assert settings.promoter_policy(task) == settings.promoter
        assert settings.validator_policy(task) == settings.validator


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("[tasks.routing.trainer]\nepochs = -1", "trainer.epochs: Input should be greater than 0"),
        ("[tasks.routing.trainer]\nepocs = 1", "trainer.epocs: unknown setting; did you mean epochs?"),
        ("[tasks.routing.validator]\nx = 1", "validator.x: unknown setting; it takes min_gain, max_drop"),
        ("[tasks.routing.trainer]\nthreads = 1", "trainer.threads: holds for all tasks of a process: set it in [trai"),
        ("[tasks.routing.monitor]\ntick_seconds = 1", "monitor.tick_seconds: holds for all tasks of a process"),
        ("[tasks.routing.promoter]\ntick_seconds = 1", "promoter.tick_seconds: holds for all tasks of a process"),
        ("[tasks.routing.validator]\nmax_adapter_bytes = 1", "validator.max_adapter_bytes: holds for all tasks of"),
        ("[tasks.routing.quantizer]\nmax_loss_rise = 1", "quantizer: cannot be set for a task, only monitor, trainer"),
        ("trainer = 3", "trainer: is not a table: write [tasks.NAME.trainer]"),
        ("[tasks.routing.promoter]\nshares = [0.5, 0.1]", "promoter: shares is [0.5, 0.1]: give rising shares of the"),
        ("[tasks.routing.promoter]\nshares = [0.5, true, 'x']", "promoter.shares.2: Input should be a valid number"),
        # The rule holds for the merged policy: of is 3 by default, and 2 in the file of the second case.
        ("[tasks.routing.monitor]\nflags = 4", "monitor: flags = 4 of 3 windows can never be: set flags to 3 or less"),
        ("[tasks.routing.monitor]\nflags = 3\n[monitor]\nof = 2", "monitor: flags = 3 of 2 windows can never be"),
    ],
)
def test_a_wrong_override_names_the_task_the_table_and_the_setting(tmp_path: Path, override: str, fault: str):
    [found] = faults(tmp_path, TASK + override)
    assert found.startswith(f"tasks.routing.{fault}")


def test_a_fault_of_a_table_is_not_told_again_for_the_tasks_that_override_it(tmp_path: Path):
    override = TASK + "[tasks.routing.monitor]\nalpha = 0.02\n[monitor]\n"
    assert faults(tmp_path, override + "of = 1\n") == (
        "[monitor] flags = 2 of 1 windows can never be: set flags to 1 or less",
    )
    assert faults(tmp_path, override + "off = 1\n") == ("monitor.off: Extra inputs are not permitted",)


def test_a_tasks_retrieval_is_a_setting_of_its_own_and_no_override(tmp_path: Path):
    settings = written(tmp_path, TASK + "retrieval = true\n[retrieval]\nreranked = 5\n")
    assert (settings.tasks["routing"].retrieval, settings.retrieval.reranked) == (True, 5)


def test_tasks_without_overrides_are_written_as_they_always_were():
    assert not {"monitor", "trainer", "validator", "promoter"} & Task(name="t", instruction="x").model_dump().keys()
    assert Task(name="t", instruction="x", trainer={"epochs": 5}).model_dump()["trainer"] == {"epochs": 5}


def test_a_policy_that_breaks_its_own_rule_cannot_be_made():
    with pytest.raises(ValidationError, match="flags = 2 of 1 windows can never be"):
        MonitorPolicy(of=1)
    with pytest.raises(ValidationError, match="there is no scheme int3: choose from int8, nf4"):
        QuantizerPolicy(schemes=("int3",))
    assert unknown_schemes(("int8", "nf4")) is None
