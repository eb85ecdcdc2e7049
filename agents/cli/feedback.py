"""``everlearn feedback``: sends what a user says of one answer."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, checked, refuse_unknown
from agents.cli.output import JsonObject, conclude
from agents.cli.sending import publish_events
from agents.cli.stores import open_feature_table
from agents.cli.waiting import Deadline, look_until
from infra.settings import Settings
from schemas.errors import EverlearnError, Misuse
from schemas.interactions import FeedbackGiven

FEEDBACK_FIELDS = ("answer_id", "rating", "correction", "reason", "user")
RECORDER_SECONDS = 5.0
"""How long to wait for the recorder to write the row of the answer."""


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
def feedback(
    context: CommandContext, /, answer_id: str, up: bool, down: bool, force: bool, **given: str | None
) -> None:
    """Rate or correct the answer with this id, as 'everlearn ask' showed it."""
    if up and down:
        raise Misuse("give --up or --down, not both")
    rating = "up" if up else "down" if down else None
    fields = {name: value for name, value in {"rating": rating, **given}.items() if value is not None}
    try:
        event = feedback_of({"answer_id": answer_id, **fields})
    except Faulty as error:
        raise Misuse(f"{error}: see 'everlearn feedback --help'") from None
    if not force and not _is_recorded(context.settings, answer_id):
        raise EverlearnError(
            f"no answer {answer_id!r} is recorded, so nothing was sent: see 'everlearn interactions list', "
            "or send it all the same with --force"
        )
    publish_events(context.settings, event)
    sentence = f"sent feedback on {answer_id}: {', '.join(fields)}"
    conclude(event.model_dump(mode="json", exclude_none=True), sentence, as_json=context.json)


def _is_recorded(settings: Settings, answer_id: str) -> bool:
    def recorded() -> bool | None:
        row = table.get(answer_id)
        # A row without a task consists of feedback alone: nobody has seen such an answer.
        return True if row is not None and row.task is not None else None

    with open_feature_table(settings) as table:
        return look_until(recorded, Deadline(RECORDER_SECONDS)) is not None


def feedback_of(fields: JsonObject) -> FeedbackGiven:
    """Makes feedback of a line's object. Raises Faulty."""
    refuse_unknown(fields, FEEDBACK_FIELDS)
    return checked(lambda: FeedbackGiven(**fields))
