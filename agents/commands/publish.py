"""``everlearn publish``: documents, labelled examples and feedback from files onto their topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from agents.commands import sources
from agents.commands.context import Context, json_option, pass_context
from agents.commands.indexing import describe_missing, wait_until_indexed
from agents.commands.inputs import STANDARD_INPUT, open_lines
from agents.commands.jsonl import Item, Refusal, parse
from agents.commands.options import timeout_option
from agents.commands.output import Advance, counted, emit, note, progress
from agents.commands.sending import Tally, now, send_all
from agents.errors import EverlearnError
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from schemas.documents import DEFAULT_TENANT, DocumentSubmitted, DocumentWithdrawn
from schemas.event import Event

E = TypeVar("E", bound=Event)


@click.group()
def publish() -> None:
    """Publish documents, examples or feedback.

    Lines that are wrong are named and passed over; the others are published. The exit code is 1 when there were any.
    """


@publish.command()
@click.argument("path")
@click.option("--wait", is_flag=True, help="Return when all of them are searchable.")
@timeout_option(120.0, "With --wait: give up after so long without news of the indexer.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="The tenant where a line names none.")
@json_option
@pass_context
def documents(context: Context, /, path: str, wait: bool, timeout: float, tenant: str) -> None:
    """Publish documents from PATH: JSON lines, a folder of .md and .txt files, one such file, or - for stdin.

    A line is {"id","text","title"?,"uri"?,"tenant"?,"metadata"?} or {"id","deleted":true,"tenant"?}.
    Of several lines with one id the last wins.
    """
    config = KafkaClientConfig.from_settings(context.settings)
    started = time.monotonic()
    newest: dict[str, datetime] = {}

    def remember(event: sources.Document) -> None:
        newest[event.key] = event.submitted_at

    with ExitStack() as stack:
        # Positioned before anything is sent, so that no word of the indexer is missed.
        reader = stack.enter_context(RecordReader(config, ["indexing.v1"], from_end=True)) if wait else None
        with RecordPublisher(config) as publisher, _documents(path, tenant) as (items, folder):
            tally = send_all(publisher, items, remember)
        _note_passed_over(folder)
        _refuse_nothing(tally, path)
        missing: dict[str, datetime] = {}
        if reader is not None:
            with progress("indexing", len(newest)) as advance:
                missing = wait_until_indexed(reader, newest, patience_seconds=timeout, on_indexed=lambda: advance(1))
    report: dict[str, Any] = {
        "published": tally.sent[DocumentSubmitted],
        "withdrawn": tally.sent[DocumentWithdrawn],
        "refused": tally.refused,
        "documents": len(newest),
        "seconds": round(time.monotonic() - started, 3),
    }
    if wait:
        report |= {"indexed": len(newest) - len(missing), "missing": [key.partition("/")[2] for key in missing]}
    _report(context, report, _sentence(report, wait))
    if missing:
        raise EverlearnError(describe_missing(missing, len(newest), timeout))
    _end(tally, path)


@publish.command()
@click.argument("file")
@json_option
@pass_context
def examples(context: Context, /, file: str) -> None:
    """Publish labelled examples from FILE, or - for stdin: lines {"task","input","output","origin"?}."""
    tasks = context.settings.tasks
    names = ", ".join(tasks) or "none: add one with 'everlearn tasks add'"
    origin = "stdin" if file == STANDARD_INPUT else Path(file).name[:200]
    _publish_lines(context, file, "example", lambda fields: sources.example(fields, tasks, names, origin))


@publish.command()
@click.argument("file")
@json_option
@pass_context
def feedback(context: Context, /, file: str) -> None:
    """Publish feedback from FILE, or - for stdin: lines {"answer_id","rating"?,"correction"?,"reason"?,"user"?}.

    A rating is "up" or "down". Feedback may come before the answer that it is about.
    """
    _publish_lines(context, file, "feedback line", sources.feedback)


def _publish_lines(context: Context, file: str, noun: str, build: Callable[[dict[str, Any]], E]) -> None:
    config = KafkaClientConfig.from_settings(context.settings)
    with _lines(file, build) as items, RecordPublisher(config) as publisher:
        tally = send_all(publisher, items)
    _refuse_nothing(tally, file)
    report = {"published": tally.sent.total(), "refused": tally.refused}
    _report(context, report, f"published {counted(report['published'], noun)}")
    _end(tally, file)


@contextmanager
def _lines(path: str, build: Callable[[dict[str, Any]], E]) -> Iterator[Iterable[Item[E] | Refusal]]:
    """The items of a file of lines, with a progress bar over its bytes."""
    with open_lines(path) as (file, name):
        size = Path(path).stat().st_size if path != STANDARD_INPUT else None
        with progress("publishing", size) as advance:
            yield parse(_counting(file, advance), name, build)


@contextmanager
def _documents(
    path: str, tenant: str
) -> Iterator[tuple[Iterable[Item[sources.Document] | Refusal], sources.Folder | None]]:
    clock = sources.RisingClock(now)
    place = Path(path)
    if place.is_dir():
        folder = sources.Folder(path=place, clock=clock, tenant=tenant)
        yield folder, folder
    elif place.suffix.lower() in sources.TEXT_SUFFIXES and place.is_file():
        folder = sources.Folder(path=place.parent, clock=clock, tenant=tenant)
        yield [folder.read(place, place.name)], None
    else:
        with _lines(path, sources.DocumentLines(clock=clock, tenant=tenant)) as items:
            yield items, None


def _counting(lines: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    for line in lines:
        yield line
        advance(len(line))


def _note_passed_over(folder: sources.Folder | None) -> None:
    if folder is not None and folder.passed_over:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in folder.passed_over.most_common())
        total = folder.passed_over.total()
        note(f"passed over {counted(total, 'file')} of other kinds than .md and .txt: {kinds}")


def _refuse_nothing(tally: Tally, path: str) -> None:
    if tally.total == 0:
        raise EverlearnError(f"{path} holds nothing to publish: see 'everlearn publish --help' for what it may hold")


def _report(context: Context, report: dict[str, Any], sentence: str) -> None:
    if context.json:
        emit(report)
    else:
        click.echo(sentence)


def _sentence(report: dict[str, Any], wait: bool) -> str:
    parts = [f"published {counted(report['published'], 'document')}"]
    if report["withdrawn"]:
        parts.append(f"withdrew {report['withdrawn']:,}")
    if wait:
        parts.append(f"{report['indexed']:,} of {report['documents']:,} are indexed")
    return f"{', '.join(parts)} ({report['seconds']:.1f} s)"


def _end(tally: Tally, path: str) -> None:
    if tally.refused:
        raise EverlearnError(
            f"{counted(tally.refused, 'item')} of {path} refused, as said above: mend and publish again"
        )
