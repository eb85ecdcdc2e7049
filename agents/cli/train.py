"""``everlearn train``: asks for a training run, and waits for its adapter."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task, timeout_option
from agents.cli.output import conclude
from agents.cli.sending import publish_events
from agents.cli.waiting import request_run
from schemas.errors import EverlearnError
from schemas.learning import AdapterTrained, TrainingDeclined, TrainingRequested


@click.command()
@click.argument("task")
@click.option("--reason", metavar="TEXT", help="Why; it travels with the request.")
@click.option("--wait", is_flag=True, help="Show the progress, and return when there is an adapter.")
@timeout_option(7200.0, "With --wait: give up after this time.")
@json_option
@pass_context
def train(context: CommandContext, /, task: str, reason: str | None, wait: bool, timeout: float) -> None:
    """Ask for a training run of TASK on corrections, approved answers and examples.

    The adapter is judged by the validator next, and released by the promoter after a canary.
    """
    settings = context.settings
    choose_task(task, settings.tasks)
    request = TrainingRequested(task=task, reason=reason)
    if not wait:
        [request_id] = publish_events(settings, request)
        sentence = f"asked to train {task} (request {request_id})"
        conclude({"task": task, "request": request_id}, sentence, as_json=context.json)
        return
    ended = request_run(settings, request, topic="adapters.v1", agent="trainer", seconds=timeout)
    if isinstance(ended, TrainingDeclined):
        raise EverlearnError(f"{task} was not trained: {ended.reason}")
    if not isinstance(ended, AdapterTrained):
        raise EverlearnError(
            f"no adapter of {task} came within {timeout:g} s: see with 'everlearn status' whether a trainer is ready, "
            "or wait longer with --timeout"
        )
    sentence = f"trained {ended.adapter_id} of {task} on dataset {ended.dataset_id}"
    conclude(ended.model_dump(mode="json"), sentence, as_json=context.json)
