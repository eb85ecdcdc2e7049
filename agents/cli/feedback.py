"""``everlearn feedback``: sends what a user says of one answer."""

from __future__ import annotations

import time
from typing import Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, checked, refuse_unknown
from agents.cli.output import emit
from agents.cli.sending import SOURCE, now
from agents.cli.stores import open_feature_table
from infra.kafka import KafkaClientConfig, RecordPublisher
from infra.settings import Settings
from schemas.envelope import encode, new_context
from schemas.errors import EverlearnError, Misuse
from schemas.interactions import FeedbackGiven

RECORDER_SECONDS = 5.0
"""Feedback may be quicker than the recorder: wait this long for the answer's row."""


LOOK_SECONDS = 0.2


@click.command()
@click.argument("answer_id")
@click.option("--up", is_flag=True, help="The answer was good.")
@click.option("--down", is_flag=True, help="The answer was bad.")
@click.option("--correction", metavar="TEXT", help="What the answer should have been.")
@click.option("--reason", metavar="TEXT", help="Why.")
@click.option("--user", help="Who says so.")
@click.option("--force", is_flag=True, help="Send it even though no such answer is recorded.")
@json_option
@pass_context
def feedback(context: CommandContext, /, answer_id: str, up: bool, down: bool, force: bool, **given: Any) -> None:
    """Rate or correct the answer with this id, as 'everlearn ask' showed it."""
    if up and down:
        raise Misuse("give --up or --down, not both")
    rating = "up" if up else "down" if down else None
    said = {name: value for name, value in {"rating": rating, **given}.items() if value is not None}
    try:
        event = feedback_of({"answer_id": answer_id, **said})
    except Faulty as error:
        raise Misuse(f"{error}: see 'everlearn feedback --help'") from None
    config = KafkaClientConfig.from_settings(context.settings)
    if not force and not _is_recorded(context.settings, answer_id):
        raise EverlearnError(
            f"no answer {answer_id!r} is recorded, so nothing was sent: see 'everlearn interactions list', "
            "or send it all the same with --force"
        )
    with RecordPublisher(config) as publisher:
        publisher.publish([encode(event, new_context(SOURCE, now=now()))])
    if context.json:
        emit(event.model_dump(mode="json", exclude_none=True))
    else:
        click.echo(f"sent feedback on {answer_id}: {', '.join(said)}")


def _is_recorded(settings: Settings, answer_id: str) -> bool:
    deadline = time.monotonic() + RECORDER_SECONDS
    with open_feature_table(settings) as table:
        while True:
            row = table.get(answer_id)
            # A row without a task consists of feedback alone: nobody has seen such an answer.
            if row is not None and row.task is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_SECONDS)


FEEDBACK_FIELDS = ("answer_id", "rating", "correction", "reason", "user")


def feedback_of(fields: dict[str, Any]) -> FeedbackGiven:
    """What a user says of an answer."""
    refuse_unknown(fields, FEEDBACK_FIELDS)
    return checked(lambda: FeedbackGiven(**fields))
