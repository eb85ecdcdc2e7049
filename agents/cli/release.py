"""``everlearn promote`` and ``rollback``: change a release by hand, through requests.v1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from agents.cli.adapters import by_prefix
from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task, timeout_option
from agents.cli.output import conclude, note
from agents.cli.sending import publish_events, stamped
from agents.cli.stores import open_registry, open_releases
from agents.cli.waiting import Deadline, Reader, event_of, reader_and_publisher, records_until, waiting
from agents.delivery.dead_letters import PREFIX
from agents.promoter import changes
from schemas.errors import EverlearnError, Misuse
from schemas.learning import ExperimentRequested, PromotionRequested, RollbackRequested
from schemas.promotions import ReleaseEvent
from schemas.registry import AdapterRecord
from schemas.release_state import Release
from schemas.topics import dead_letter_topic

DEAD_LETTERS = dead_letter_topic("requests.v1", "promoter")
_REASON = click.option("--reason", metavar="TEXT", help="Why; it stands in the history.")
_WAIT = click.option("--wait", is_flag=True, help="Return when it is done, and show the release.")
_TIMEOUT = timeout_option(60.0, "With --wait: give up after this time.")
Request = PromotionRequested | RollbackRequested | ExperimentRequested


def _share(_ctx: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 < value < 1):
        raise click.BadParameter("give a part of the users between 0 and 1, such as 0.2")
    return value


@click.command()
@click.argument("task")
@click.argument("adapter", required=False)
@click.option("--share", type=float, metavar="S", callback=_share, help="Try it on this part of the users instead.")
@_REASON
@_WAIT
@_TIMEOUT
@json_option
@pass_context
def promote(
    context: CommandContext,
    /,
    task: str,
    adapter: str | None,
    share: float | None,
    reason: str | None,
    wait: bool,
    timeout: float,
) -> None:
    """Promote an adapter of TASK at once, without a canary.

    ADAPTER is an id or its beginning. Without it, the newest validated adapter that is not the champion is promoted.
    With --share, the adapter answers that part of the users until their feedback decides, as in a canary. If the
    release changes before the promoter serves the request, it is refused.
    """
    if share is not None and reason is not None:
        raise Misuse("--reason goes with a promotion and not with --share: leave one of them out")
    settings = context.settings
    choose_task(task, settings.tasks)
    with waiting(timeout if wait else None) as deadline:
        with open_releases(settings) as releases:
            release = releases.current(task)
        with open_registry(settings) as registry:
            registered = registry.adapters(task)
        chosen = choose_adapter(registered, release, adapter).adapter_id
        event: Request = PromotionRequested(task=task, adapter_id=chosen, reason=reason, sequence=release.sequence)
        asked = f"asked to promote {chosen} for {task}"
        if share is not None:
            event = ExperimentRequested(task=task, adapter_id=chosen, share=share, sequence=release.sequence)
            asked = f"asked to try {chosen} on {share:.0%} of the users of {task}"
        _request(context, event, asked, deadline)


@click.command()
@click.argument("task")
@_REASON
@click.option("--dry-run", is_flag=True, help="Only say what it would do.")
@_WAIT
@_TIMEOUT
@json_option
@pass_context
def rollback(
    context: CommandContext, /, task: str, reason: str | None, dry_run: bool, wait: bool, timeout: float
) -> None:
    """Take back the canary of TASK that is under way, or else return to the adapter before the champion.

    First says what it will do. If that adapter is out of service before the promoter serves the request, it is refused.
    """
    settings = context.settings
    choose_task(task, settings.tasks)
    with waiting(timeout if wait else None) as deadline:
        with open_releases(settings) as releases:
            release = releases.current(task)
            history = releases.history(task)
        leaves = changes.leaves(release)
        if leaves is None:
            raise EverlearnError(f"there is nothing to roll back: {task} is served by the base model alone")
        known = changes.with_earlier(release, history)
        change = changes.roll_back(known, reason=reason or "", at=datetime.now(UTC))
        plan = (
            f"takes {leaves} of {task} back; {change.release.champion or 'the base model alone'} answers all users then"
        )
        if dry_run:
            conclude(change.event.model_dump(mode="json"), f"it {plan}", as_json=context.json)
            return
        note(plan)
        event = RollbackRequested(task=task, reason=reason, adapter_id=leaves)
        _request(context, event, f"asked to take {leaves} of {task} back", deadline)


def choose_adapter(records: Sequence[AdapterRecord], release: Release, wanted: str | None) -> AdapterRecord:
    """The adapter to promote. ``records``: all of the task, newest first. Raises EverlearnError with the reason."""
    task = release.task
    if wanted is None:
        usable = (
            each
            for each in records
            if each.state == "validated" and each.adapter_id != release.champion and each.removed_at is None
        )
        record = next(usable, None)
        if record is None:
            raise EverlearnError(
                f"no validated adapter of {task} is there that is not its champion: see 'everlearn adapters list', "
                f"or run 'everlearn train {task}'"
            )
        return record
    record = by_prefix(records, wanted, task)
    if record.adapter_id == release.champion:
        raise EverlearnError(f"{record.adapter_id} is the champion of {task} already")
    if record.removed_at is not None:
        raise EverlearnError(f"the files of {record.adapter_id} were deleted: train again, or name another adapter")
    if record.state == "rejected":
        raise EverlearnError(f"{record.adapter_id} was rejected: {'; '.join(record.reasons)}; name another adapter")
    if record.state != "validated":
        raise EverlearnError(f"{record.adapter_id} is not validated yet: wait for it, see 'everlearn adapters list'")
    return record


def wait_for_release(reader: Reader, request_id: str, deadline: Deadline) -> ReleaseEvent | str | None:
    """The release that a request led to, or the promoter's reason against it; None when neither came in time."""
    for record in records_until(reader, deadline):
        if record.position.topic == DEAD_LETTERS:
            headers = dict(record.headers)
            if headers.get("ce_id") == request_id.encode():
                return headers.get(f"{PREFIX}message", b"").decode(errors="replace")
        elif (decoded := event_of(record)) is not None:
            event, context = decoded
            if isinstance(event, ReleaseEvent) and context.causation_id == request_id:
                return event
    return None


def _request(context: CommandContext, event: Request, asked: str, deadline: Deadline | None) -> None:
    """Sends the request. With a deadline it also waits for the promoter's reply, and prints that."""
    if deadline is None:
        publish_events(context.settings, event)
        conclude(event.model_dump(mode="json", exclude_none=True), asked, as_json=context.json)
        return
    with reader_and_publisher(context.settings, ["promotions.v1", DEAD_LETTERS], deadline) as (reader, publisher):
        request_id, record = stamped(event)
        publisher.publish([record])
        reply = wait_for_release(reader, request_id, deadline)
    if reply is None:
        raise EverlearnError(
            f"{asked}, but nothing came of it in {deadline.seconds:g} s: see with 'everlearn status' whether a "
            "promoter is ready, or wait longer with --timeout"
        )
    if isinstance(reply, str):
        raise EverlearnError(f"the promoter refused: {reply}")
    conclude(reply.model_dump(mode="json"), release_sentence(reply), as_json=context.json)


def release_sentence(event: ReleaseEvent) -> str:
    """A release in words: ``routing: sequence 5, champion ab12…, challenger cd34… for 20% of the users``."""
    text = f"{event.task}: sequence {event.sequence}, champion {event.champion or 'none (the base model alone)'}"
    if event.challenger is not None and event.stage != "steady":
        text += f", challenger {event.challenger} for {event.share:.0%} of the users"
    return text
