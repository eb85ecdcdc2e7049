"""``everlearn publish documents``: lines, files and folders onto the topic of documents, or a look at what would go."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from agents.cli import sources
from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.dry_run import show
from agents.cli.files import DocumentFiles, is_document
from agents.cli.folders import Folder
from agents.cli.indexing import Told, describe_empty, describe_missing, wait_until_indexed
from agents.cli.inputs import STANDARD_INPUT, open_items
from agents.cli.jsonl import BYTE_ORDER_MARK, Faulty, Item, Refusal, read_object
from agents.cli.listing import list_folder
from agents.cli.options import metadata_option, timeout_option
from agents.cli.output import conclude, counted, note, progress
from agents.cli.sending import now, send_all
from infra.conversion import Converter
from infra.kafka import KafkaClientConfig, RecordPublisher, RecordReader
from infra.published_files import FILE_NAME, PublishedFiles
from infra.settings import Settings
from schemas.documents import DEFAULT_TENANT, DocumentIndexed, DocumentSubmitted, DocumentWithdrawn, Metadata
from schemas.errors import EverlearnError, Misuse
from schemas.topics import BULK_DOCUMENTS, MAX_RECORD_BYTES

FIRST = 16
"""So many documents of one publish are indexed at once; the others are a bulk load, for which nobody's single document
waits. Which of two versions of a document counts does not depend on the lanes that they take."""

Items = Iterable[Item[sources.Document] | Refusal]


@click.command()
@click.argument("path")
@click.option("--wait", is_flag=True, help="Return when all that was sent is searchable.")
@timeout_option(120.0, "With --wait: give up after so long without news of the indexer.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="The tenant where a line names none.")
@metadata_option("Metadata of each document that does not have the key. Repeatable; numbers, true and false are such.")
@click.option("--prefix", default="", metavar="TEXT", help="What the ids of files begin with, such as wiki/.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Of a folder: send unchanged files too, and what another folder has.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be sent, withdrawn and refused, and send nothing.")
@json_option
@pass_context
def documents(
    context: CommandContext,
    /,
    path: str,
    wait: bool,
    timeout: float,
    tenant: str,
    metadata: Metadata,
    prefix: str,
    everything: bool,
    dry_run: bool,
) -> None:
    """Publish documents from PATH: a folder, a file, JSON lines, or - for lines on stdin.

    Files are Markdown, text, HTML, PDF, DOCX, PPTX, XLSX, CSV and JSON. Of a folder that was published before, only
    what has changed is sent, and documents whose file is gone are withdrawn.

    A line is {"id","text","title"?,"uri"?,"tenant"?,"metadata"?,"format"?} or {"id","deleted":true,"tenant"?}.
    Of several lines with one id the last wins.
    """
    settings = context.settings
    tenants = settings.tenants.names
    if tenants and tenant not in tenants:
        raise Misuse(sources.unknown_tenant(tenant, tenants))
    build = sources.DocumentLines(clock=sources.RisingClock(now), tenant=tenant, metadata=metadata, tenants=tenants)
    with _items(settings, path, build, prefix, everything) as items:
        if dry_run:
            show(items, path, as_json=context.json)
        else:
            _publish(context, items, path, timeout if wait else None)


def _publish(context: CommandContext, items: Items, path: str, patience_seconds: float | None) -> None:
    """Sends the items, and waits until they are searchable where a patience is given."""
    config = KafkaClientConfig.from_settings(context.settings)
    folder = items if isinstance(items, Folder) else None
    started = time.monotonic()
    newest: dict[str, datetime] = {}

    def remember(event: sources.Document) -> None:
        newest[event.key] = event.submitted_at

    with ExitStack() as stack:
        # Positioned before anything is sent, so that no word of the indexer is missed.
        wait = patience_seconds is not None
        reader = stack.enter_context(RecordReader(config, ["indexing.v1"], from_end=True)) if wait else None
        with RecordPublisher(config) as publisher:
            tally = send_all(publisher, items, remember, folder.confirmed if folder else None, _lane)
        if folder is not None:
            folder.finished()
            _note_passed_over(folder)
        unchanged = folder.unchanged if folder else 0
        if not unchanged:
            tally.require_something(path)
        missing: dict[str, datetime] = {}
        empty: list[str] = []
        if reader is not None and patience_seconds is not None:
            with progress("indexing", len(newest)) as advance:

                def note_indexed(event: Told) -> None:
                    advance(1)
                    if isinstance(event, DocumentIndexed) and not event.chunk_count:
                        empty.append(event.document_id)

                missing = wait_until_indexed(reader, newest, patience_seconds=patience_seconds, on_indexed=note_indexed)
    report: dict[str, Any] = {
        "published": tally.sent[DocumentSubmitted],
        "withdrawn": tally.sent[DocumentWithdrawn],
        "unchanged": unchanged,
        "refused": tally.refused,
        "documents": len(newest),
        "seconds": round(time.monotonic() - started, 3),
    }
    if reader is not None:
        report |= {"indexed": len(newest) - len(missing), "missing": [key.partition("/")[2] for key in missing]}
    if empty:
        note(describe_empty(empty))
    sentence = _nothing_changed(folder) if folder is not None and not tally.total else _sentence(report)
    conclude(report, sentence, as_json=context.json)
    if missing:
        raise EverlearnError(describe_missing(missing, len(newest), patience_seconds or 0.0))
    tally.end(path)


def _lane(place: int) -> str | None:
    return None if place < FIRST else BULK_DOCUMENTS


@contextmanager
def _items(
    settings: Settings, path: str, build: sources.DocumentLines, prefix: str, everything: bool
) -> Iterator[Items]:
    place = Path(path)
    if path == STANDARD_INPUT or not (place.is_dir() or (place.is_file() and is_document(place))):
        with open_items(path, build) as items:
            yield items
    elif place.is_dir():
        listing = list_folder(place, prefix)
        published = PublishedFiles(
            settings.home / FILE_NAME, settings.kafka.bootstrap_servers, build.tenant, place.resolve()
        )
        with Converter() as converter, progress("publishing", len(listing.files)) as advance:
            yield Folder(
                path=place,
                listing=listing,
                files=DocumentFiles(build=build, converter=converter),
                published=published,
                everything=everything,
                on_file=advance,
            )
    elif _holds_lines(place):
        with open_items(path, build) as items:
            yield items
    else:
        with Converter() as converter:
            yield [DocumentFiles(build=build, converter=converter).read(place, prefix + place.name)]


def _holds_lines(path: Path) -> bool:
    """Whether a .json file holds documents a line: its first line is one."""
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            first = read_object(file.readline(MAX_RECORD_BYTES).removeprefix(BYTE_ORDER_MARK))
    except (OSError, Faulty):
        return False
    return "id" in first and ("text" in first or "deleted" in first)


def _note_passed_over(folder: Folder) -> None:
    kinds = folder.listing.kinds
    if kinds:
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        note(f"passed over {counted(kinds.total(), 'file')} of other kinds than can be published: {named}")


def _nothing_changed(folder: Folder) -> str:
    last = folder.published.last_published()
    since = f" since {last.astimezone():%Y-%m-%d %H:%M:%S}" if last is not None else ""
    return f"nothing changed{since} ({counted(folder.unchanged, 'document')})"


def _sentence(report: dict[str, Any]) -> str:
    parts = [f"published {counted(report['published'], 'document')}"]
    if report["withdrawn"]:
        parts.append(f"withdrew {report['withdrawn']:,}")
    if report["unchanged"]:
        parts.append(f"{report['unchanged']:,} unchanged")
    if "indexed" in report and report["documents"]:
        parts.append(f"{report['indexed']:,} of {report['documents']:,} are indexed")
    return f"{', '.join(parts)} ({report['seconds']:.1f} s)"
