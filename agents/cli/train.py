"""``everlearn train``: asks for a training run, and waits for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task, timeout_option
from agents.cli.output import emit, share_bar
from agents.cli.sending import SOURCE, now
from agents.cli.stores import open_database
from agents.cli.waiting import Reader, follow_request
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.envelope import encode, new_context
from schemas.errors import EverlearnError
from schemas.learning import AdapterTrained, TrainingDeclined, TrainingRequested

if TYPE_CHECKING:
    from schemas.delivery import Run

AGENT = "trainer"
Ended = AdapterTrained | TrainingDeclined


@click.command()
@click.argument("task")
@click.option("--reason", metavar="TEXT", help="Why; it travels with the request.")
@click.option("--wait", is_flag=True, help="Show the progress, and return when there is an adapter.")
@timeout_option(7200.0, "With --wait: give up after so long.")
@json_option
@pass_context
def train(context: CommandContext, /, task: str, reason: str | None, wait: bool, timeout: float) -> None:
    """Ask for a training run of TASK on corrections, approved answers and examples.

    The adapter is judged by the validator next, and released by the promoter after a canary.
    """
    settings = context.settings
    choose_task(task, settings.tasks)
    config = KafkaClientConfig.from_settings(settings)
    origin = new_context(SOURCE, now=now())
    request = encode(TrainingRequested(task=task, reason=reason), origin)
    if not wait:
        with RecordPublisher(config) as publisher:
            publisher.publish([request])
        _tell(context, {"task": task, "request": origin.id}, f"asked to train {task} (request {origin.id})")
        return
    with (
        RecordReader(config, ["adapters.v1"], from_end=True) as reader,
        RecordPublisher(config) as publisher,
        open_database(settings) as database,
        share_bar() as show,
    ):
        from infra.sql.runs import SqlRunStore

        runs = SqlRunStore(database)
        publisher.publish([request])
        ended = wait_for(reader, origin.id, lambda: runs.of_task(AGENT, task, 5), show, patience_seconds=timeout)
    if ended is None:
        raise EverlearnError(
            f"no adapter of {task} came within {timeout:g} s: see with 'everlearn status' whether a trainer is ready, "
            "or wait longer with --timeout"
        )
    if isinstance(ended, TrainingDeclined):
        raise EverlearnError(f"{task} was not trained: {ended.reason}")
    _tell(context, ended.model_dump(mode="json"), f"trained {ended.adapter_id} of {task} on dataset {ended.dataset_id}")


def wait_for(
    reader: Reader,
    request_id: str,
    runs: Callable[[], list[Run]],
    show: Callable[[float, str], None],
    *,
    patience_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Ended | None:
    """What the request led to; None when nothing came in time. ``runs``: the trainer's, newest first."""
    ended = follow_request(
        reader,
        request_id,
        (AdapterTrained, TrainingDeclined),
        runs,
        show,
        patience_seconds=patience_seconds,
        clock=clock,
    )
    return ended if isinstance(ended, AdapterTrained | TrainingDeclined) else None


def _tell(context: CommandContext, fields: dict[str, Any], text: str) -> None:
    if context.json:
        emit(fields)
    else:
        click.echo(text)
