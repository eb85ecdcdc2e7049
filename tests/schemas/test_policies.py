"""A retention policy that would delete what something needs is refused, with the reason and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.settings import WrongSettings, load
from schemas.policies import RetentionPolicy, retention_faults
from schemas.topics import LONGEST_KEPT_DAYS, SEGMENT_DAYS, TOPICS, all_topics


def test_the_defaults_delete_nothing_that_is_needed() -> None:
    assert retention_faults(RetentionPolicy()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"journal_days": 2}, "journal_days = 2 is shorter than the 16 days for which a topic may deliver"),
        (
            {"pending_days": 15.5},
            "pending_days = 15.5 is shorter than the 16 days for which an answer may still arrive",
        ),
        ({"feature_days": 29}, "feature_days = 29 is shorter than pending_days = 30"),
        ({"report_days": 200}, "alarm_report_days = 180 is shorter than report_days = 200"),
        (
            {"alarm_report_days": 3, "report_days": 1},
            "16 days for which events on drift.v1 name the report: set it to 16",
        ),
        ({"check_days": 100}, "check_days = 100 is shorter than alarm_report_days = 180"),
        ({"release_days": 3}, "release_days = 3 is shorter than the 16 days"),
        ({"adapter_days": 31}, "adapter_days = 31 is shorter than the 32 days"),
        ({"registry_days": 59}, "registry_days = 59 is shorter than adapter_days = 60"),
    ],
)
def test_what_something_needs_must_outlive_it(changed: dict[str, float], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RetentionPolicy(**changed)
    (fault,) = refused.value.errors()
    assert words in fault["msg"]
    (sentence,) = retention_faults(RetentionPolicy.model_construct(**{**RetentionPolicy().model_dump(), **changed}))
    setting, remedy = sentence.split(" = ")[0], float(sentence.rsplit("set it to ", 1)[1].split()[0])
    RetentionPolicy(**{**changed, setting: remedy})  # what it says to set is accepted


def test_every_fault_is_named_with_its_table_when_the_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "everlearn.toml").write_text("[retention]\njournal_days = 2\nadapter_days = 3\n")
    with pytest.raises(
        WrongSettings, match=r"\[retention\] journal_days = 2 is shorter.*; adapter_days = 3 is shorter"
    ):
        load(tmp_path, environ={})


def test_the_journal_outlives_the_last_delivery_of_every_topic_that_an_agent_reads() -> None:
    read = {topic.name for topic in TOPICS if topic.readers}
    for topic in all_topics():
        if topic.name in read or topic.name.endswith(".retry"):
            assert topic.retention_days + SEGMENT_DAYS < LONGEST_KEPT_DAYS <= RetentionPolicy().journal_days
