"""``everlearn feedback``: sends what a user says of one answer."""

from __future__ import annotations

from collections.abc import Mapping

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.jsonl import Faulty, checked, refuse_unknown
from agents.cli.output import JsonObject, conclude, one_line
from agents.cli.sending import publish_events
from agents.cli.stores import feature_table_if_there, open_feature_table
from agents.cli.waiting import Deadline, look_until
from infra.settings import Settings
from schemas.errors import EverlearnError, Misuse
from schemas.features import Interaction
from schemas.interactions import FeedbackGiven
from schemas.tasks import Task
from schemas.words import label_of

FEEDBACK_FIELDS = ("answer_id", "rating", "correction", "reason", "user", "session", "source", "retract")
RECORDER_SECONDS = 5.0
"""How long to wait for the recorder to write the row of the answer."""


@click.command()
@click.argument("answer_id")
@click.option("--up", is_flag=True, help="The answer was good.")
@click.option("--down", is_flag=True, help="The answer was bad.")
@click.option("--correction", metavar="TEXT", help="What the answer should have been.")
@click.option("--reason", metavar="TEXT", help="Why.")
@click.option("--user", help="Who says so.  [default: a reviewer, whose word weighs more than a user's]")
@click.option("--retract", is_flag=True, help="Take back all that the same user, or the reviewer, said before.")
@click.option("--force", is_flag=True, help="Send it even though no such answer is recorded.")
@json_option
@pass_context
def feedback(
    context: CommandContext, /, answer_id: str, up: bool, down: bool, retract: bool, force: bool, **given: str | None
) -> None:
    """Rate or correct the answer with this id, as 'everlearn ask' showed it, or take that back."""
    if up and down:
        raise Misuse("give --up or --down, not both")
    rating = "up" if up else "down" if down else None
    fields: JsonObject = {name: value for name, value in {"rating": rating, **given}.items() if value is not None}
    fields |= {"retract": True} if retract else {}
    # Nothing limits yet who may use the command line, and whoever may, may also write to the topic.
    source = {} if given["user"] is not None else {"source": "reviewer"}
    try:
        event = feedback_of({"answer_id": answer_id, **fields, **source})
    except Faulty as error:
        raise Misuse(f"{error}: see 'everlearn feedback --help'") from None
    row = _recorded(context.settings, answer_id, 0.0 if force else RECORDER_SECONDS)
    if row is None and not force:
        raise EverlearnError(
            f"no answer {answer_id!r} is recorded, so nothing was sent: see 'everlearn interactions list', "
            "or send it all the same with --force"
        )
    if fault := wrong_label(event, row, context.settings.tasks):
        raise Misuse(fault)
    publish_events(context.settings, event)
    sentence = f"sent feedback on {answer_id}: {', '.join(fields)}"
    conclude(event.model_dump(mode="json", exclude_none=True), sentence, as_json=context.json)


def _recorded(settings: Settings, answer_id: str, seconds: float) -> Interaction | None:
    def recorded() -> Interaction | None:
        row = table.get(answer_id) if table is not None else None
        # A row without a task consists of feedback alone: nobody has seen such an answer.
        return row if row is not None and row.task is not None else None

    if not seconds:
        with feature_table_if_there(settings) as table:
            return recorded()
    with open_feature_table(settings) as table:
        return look_until(recorded, Deadline(seconds))


def feedback_of(fields: JsonObject) -> FeedbackGiven:
    """Makes feedback of a line's object. Raises Faulty."""
    refuse_unknown(fields, FEEDBACK_FIELDS)
    return checked(lambda: FeedbackGiven(**fields))


def wrong_label(given: FeedbackGiven, row: Interaction | None, tasks: Mapping[str, Task]) -> str | None:
    """Says that a correction is none of the task's labels, and which there are; None if it is, or if any text is right.

    ``row``: the answer, where it is recorded already.
    """
    task = tasks.get(row.task) if row is not None and row.task is not None else None
    if task is None or given.correction is None:
        return None
    return not_a_label(given.correction, task, "correction")


def not_a_label(text: str, task: Task, field: str) -> str | None:
    """Says that a text is none of the task's labels; None if it is one, or if the task has none."""
    if not task.labels or label_of(text, task.labels) is not None:
        return None
    return f"{field}: {one_line(text, 60)!r} is no label of {task.name}: give one of {', '.join(task.labels)}"
