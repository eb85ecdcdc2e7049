"""Asks the quantizer for work and waits for its runs, whose ids follow from the request's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from agents.cli.bars import ShowShare, share_bar
from agents.cli.database import open_database
from agents.cli.sending import SOURCE, now
from agents.delivery.ports import RunStore
from agents.quantizer.agent import AGENT
from infra.kafka import RecordPublisher
from infra.settings import Settings
from schemas.envelope import derived_id, encode, new_context
from schemas.errors import EverlearnError
from schemas.models import ModelRegistered

LOOK_SECONDS = 0.3


def request_quantization(publisher: RecordPublisher, event: ModelRegistered, schemes: Sequence[str] = ()) -> list[str]:
    """Publishes the event; gives the ids of the runs that it will lead to, one a scheme."""
    context = new_context(SOURCE, now=now())
    publisher.publish([encode(event, context)])
    return [derived_id(SOURCE, context.id, AGENT, "run", ordinal) for ordinal in range(len(schemes))]


def wait_for_runs(settings: Settings, run_ids: Sequence[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Each run's result, in order, with a progress bar. Raises EverlearnError when one takes too long."""
    from infra.sql.runs import SqlRunStore

    deadline = time.monotonic() + seconds
    with open_database(settings) as database:
        runs = SqlRunStore(database)
        for run_id in run_ids:
            with share_bar() as show:
                result = _result(runs, run_id, deadline, show)
            if result is None:
                raise EverlearnError(
                    f"the run {run_id} has not ended within {seconds:g} s: see in 'everlearn status' whether a "
                    "quantizer is ready, or wait longer with --timeout"
                )
            yield result


def _result(runs: RunStore, run_id: str, deadline: float, show: ShowShare) -> dict[str, Any] | None:
    while time.monotonic() < deadline:
        run = runs.show(run_id)
        if run is not None and run.state in ("done", "failed"):
            return run.result
        if run is not None and run.progress:
            show(run.progress["done"], f"{run.arguments['scheme']}: {run.progress['text']}")
        time.sleep(LOOK_SECONDS)
    return None
