"""``everlearn publish``: sends documents, labelled examples and feedback from files to their topics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.documents import (
    Document,
    DocumentFiles,
    DocumentLines,
    Folder,
    Indexed,
    RisingClock,
    is_document,
    list_folder,
    unknown_tenant,
)
from agents.cli.feedback import feedback_of, not_a_label, wrong_label
from agents.cli.jsonl import (
    BYTE_ORDER_MARK,
    STANDARD_INPUT,
    Faulty,
    Item,
    Refusal,
    checked,
    open_items,
    read_object,
    refuse_unknown,
)
from agents.cli.options import metadata_option, timeout_option
from agents.cli.output import JsonObject, conclude, counted, local_time, note, one_line, progress
from agents.cli.sending import Tally, now, record_of, send_all
from agents.cli.stores import feature_table_if_there, open_database
from agents.cli.waiting import (
    Deadline,
    IndexingOutcome,
    Reader,
    open_publisher,
    open_reader,
    wait_until_indexed,
)
from infra.conversion import Converter
from infra.kafka import RecordPublisher, kafka_connection
from infra.published_files import FILE_NAME, PublishedFiles
from infra.settings import DATABASE_NAME, Settings
from schemas.documents import DEFAULT_TENANT, DocumentIndexed, DocumentSubmitted, DocumentWithdrawn, Metadata
from schemas.envelope import Record
from schemas.errors import ConfigurationError, EverlearnError, Misuse, Unavailable
from schemas.event import Event
from schemas.interactions import ExampleSubmitted, FeedbackGiven
from schemas.policies import EMBEDDED
from schemas.tasks import Task, unknown_task
from schemas.topics import BULK_DOCUMENTS, MAX_RECORD_BYTES

EXAMPLE_FIELDS = ("task", "input", "output", "origin")
FIRST = 16
"""How many documents of one publish go to the documents' own topic, where they are indexed at once.

The others are a bulk load and go to its topic, so that nobody's single document waits behind them. Which of two
versions of a document counts does not depend on their topics.
"""
SHOWN_NAMES = 5
WIDEST_NAME = 100
WIDEST_LINE = 300

E = TypeVar("E", bound=Event)
Items = Iterable[Item[Document] | Refusal]


@click.group()
def publish() -> None:
    """Publish documents, examples or feedback.

    Lines and files that are wrong are named and skipped; the others are published. The exit code is 1 when any was
    skipped.
    """


@publish.command()
@click.argument("path")
@click.option("--wait", is_flag=True, help="Return when all that was sent is searchable.")
@timeout_option(120.0, "With --wait: give up when the indexer has reported nothing for this time.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="The tenant where a line names none.")
@metadata_option("Metadata for documents that lack the key. Repeatable; numbers, true and false are read as such.")
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
        raise Misuse(unknown_tenant(tenant, tenants))
    build = DocumentLines(clock=RisingClock(now), tenant=tenant, metadata=metadata, tenants=tenants)
    with _items(settings, path, build, prefix, everything) as items:
        if dry_run:
            show_plan(items, path, as_json=context.json)
        else:
            _publish(context, items, path, timeout if wait else None)


class RenewingSender:
    """Sends with a deadline that each call renews. The time between the calls, in which files are read, is free."""

    def __init__(self, publisher: RecordPublisher, deadline: Deadline | None) -> None:
        self._publisher = publisher
        self._deadline = deadline

    def send(self, record: Record) -> object:
        with self._bounded():
            return self._publisher.send(record)

    def flush(self) -> None:
        with self._bounded():
            self._publisher.flush()

    def _bounded(self) -> AbstractContextManager[object]:
        if self._deadline is None:
            return nullcontext()
        self._deadline.renew()
        return self._deadline


def _publish(context: CommandContext, items: Items, path: str, seconds: float | None) -> None:
    """Sends the items. With ``seconds`` it also waits until they are searchable."""
    deadline = Deadline(seconds) if seconds is not None else None
    folder = items if isinstance(items, Folder) else None
    started = time.monotonic()
    newest: dict[str, datetime] = {}
    missing: dict[str, datetime] = {}
    empty: list[str] = []

    def remember(event: Document) -> None:
        newest[event.key] = event.submitted_at

    # The reader is made before anything is sent, so that it misses no event of the indexer.
    with _indexing(context.settings, deadline) as reader:
        with open_publisher(context.settings, deadline) as publisher:
            sender = RenewingSender(publisher, deadline)
            tally = send_all(sender, items, remember, folder.confirmed if folder else None, _topic_of)
        if folder is not None:
            folder.finished()
            _note_passed_over(folder)
        unchanged = folder.unchanged if folder else 0
        if not unchanged:
            tally.require_something(path)
        if reader is not None and deadline is not None:
            missing, empty = _wait(reader, newest, deadline)
    report: JsonObject = {
        "published": tally.sent[DocumentSubmitted],
        "withdrawn": tally.sent[DocumentWithdrawn],
        "unchanged": unchanged,
        "refused": tally.refused,
        "documents": len(newest),
        "seconds": round(time.monotonic() - started, 3),
    }
    if seconds is not None:
        report |= {"indexed": len(newest) - len(missing), "missing": [key.partition("/")[2] for key in missing]}
    if empty:
        note(_describe_empty(empty))
    sentence = _nothing_changed(folder) if folder is not None and not tally.total else _sentence(report)
    conclude(report, sentence, as_json=context.json)
    if missing:
        raise EverlearnError(_describe_missing(missing, len(newest), seconds or 0.0))
    tally.end(path)


def _topic_of(place: int) -> str | None:
    """The bulk topic for all but the first documents, None for the documents' own topic."""
    return None if place < FIRST else BULK_DOCUMENTS


@contextmanager
def _indexing(settings: Settings, deadline: Deadline | None) -> Iterator[Reader | None]:
    """Reads what the indexer reports from now on, if there is a deadline."""
    if deadline is None:
        yield None
        return
    with deadline:
        opened = open_reader(settings, ["indexing.v1"], deadline)
    with opened as reader:
        yield reader


def _wait(reader: Reader, newest: dict[str, datetime], deadline: Deadline) -> tuple[dict[str, datetime], list[str]]:
    """Waits with a progress bar; gives what is not indexed, and the ids of documents without a chunk."""
    empty = []
    with progress("indexing", len(newest)) as advance:

        def note_indexed(event: IndexingOutcome) -> None:
            advance(1)
            if isinstance(event, DocumentIndexed) and not event.chunk_count:
                empty.append(event.document_id)

        deadline.renew()
        with deadline:
            missing = wait_until_indexed(reader, newest, deadline, note_indexed)
    return missing, empty


def _describe_missing(missing: dict[str, datetime], total: int, seconds: float) -> str:
    """One line that says which documents are not searchable, and where to look."""
    return (
        f"{len(missing):,} of {total:,} documents are not indexed, and nothing came for {seconds:g} s: "
        f"{_names([key.partition('/')[2] for key in missing])}; they are published all the same: see "
        "'everlearn status' and 'everlearn dlq list'"
    )


def _describe_empty(names: Sequence[str]) -> str:
    """One line about documents that no search can find."""
    what = "1 document holds" if len(names) == 1 else f"{len(names):,} documents hold"
    return f"{what} nothing that can be searched: {_names(names)}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(one_line(name, WIDEST_NAME) for name in names[:SHOWN_NAMES]) + more


@contextmanager
def _items(settings: Settings, path: str, build: DocumentLines, prefix: str, everything: bool) -> Iterator[Items]:
    """The documents of lines, of a folder, or of one file."""
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
                indexed=None if everything else _indexed_in(settings, build.tenant),
                on_file=advance,
            )
    elif _holds_lines(place):
        with open_items(path, build) as items:
            yield items
    else:
        with Converter() as converter:
            yield [DocumentFiles(build=build, converter=converter).read(place, prefix + place.name)]


def _indexed_in(settings: Settings, tenant: str) -> Indexed | None:
    """Returns what looks documents up in SQL; None on a machine that only publishes, and has no database of its own."""
    from infra.sql.documents import SqlDocuments

    if settings.sql.url == EMBEDDED and not (settings.home / DATABASE_NAME).exists():
        return None

    def indexed(names: Sequence[str]) -> Mapping[str, datetime]:
        try:
            with open_database(settings) as database:
                found = SqlDocuments(database).current([(tenant, name) for name in names])
        except (ConfigurationError, Unavailable) as error:
            note(f"warning: whether all of these documents are indexed is not known: {error}")
            return dict.fromkeys(names, datetime.max.replace(tzinfo=UTC))
        return {name: state.submitted_at for (_, name), state in found.items()}

    return indexed


def _holds_lines(path: Path) -> bool:
    """Whether a .json file holds a document a line: its first line is a document."""
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            first = read_object(file.readline(MAX_RECORD_BYTES).removeprefix(BYTE_ORDER_MARK))
    except (OSError, Faulty):
        return False
    return "id" in first and ("text" in first or "deleted" in first)


def _note_passed_over(folder: Folder) -> None:
    if folder.lost:
        note(f"sent {counted(folder.lost, 'unchanged document')} again, which SQL did not hold any more")
    kinds = folder.listing.kinds
    if kinds:
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        note(f"passed over {counted(kinds.total(), 'file')} of other kinds than can be published: {named}")


def _nothing_changed(folder: Folder) -> str:
    last = folder.published.last_published()
    since = f" since {local_time(last)}" if last is not None else ""
    return f"nothing changed{since} ({counted(folder.unchanged, 'document')})"


def _sentence(report: JsonObject) -> str:
    parts = [f"published {counted(report['published'], 'document')}"]
    if report["withdrawn"]:
        parts.append(f"withdrew {report['withdrawn']:,}")
    if report["unchanged"]:
        parts.append(f"{report['unchanged']:,} unchanged")
    if "indexed" in report and report["documents"]:
        parts.append(f"{report['indexed']:,} of {report['documents']:,} are indexed")
    return f"{', '.join(parts)} ({report['seconds']:.1f} s)"


@publish.command()
@click.argument("file")
@click.option("--golden", is_flag=True, help="Every adapter is judged on them, and none is trained on them.")
@json_option
@pass_context
def examples(context: CommandContext, /, file: str, golden: bool) -> None:
    """Publish labelled examples from FILE, or - for stdin: lines {"task","input","output","origin"?}.

    With --golden they are the task's golden set, which feedback never enters.
    """
    tasks = context.settings.tasks
    origin = "stdin" if file == STANDARD_INPUT else Path(file).name[:200]
    found: Counter[str] = Counter()

    def build(fields: JsonObject) -> ExampleSubmitted:
        example = example_of(fields, tasks, origin, golden=golden)
        found[example.task] += golden
        return example

    _publish_lines(context, file, "example", build)
    for task, count in sorted(found.items()):
        least = context.settings.trainer_policy(task).minimum_golden
        if golden and count < least:
            note(
                f"the golden set of {task} is used once it has {least} examples, and {counted(count, 'example')} "
                "came from here: publish more"
            )


@publish.command()
@click.argument("file")
@json_option
@pass_context
def feedback(context: CommandContext, /, file: str) -> None:
    """Publish feedback from FILE, or - for stdin: lines {"answer_id","rating"?,"correction"?,"reason"?,"user"?,…}.

    A rating is "up" or "down". Feedback may come before the answer that it is about. "source" says who speaks: "user",
    "reviewer" or "application"; without a user and a source it is anonymous. {"answer_id","user"?,"retract":true} takes
    back what the same rater said. "session" stands in for a user.
    """
    tasks = context.settings.tasks
    with feature_table_if_there(context.settings) as table:

        def build(fields: JsonObject) -> FeedbackGiven:
            given = feedback_of(fields)
            row = table.get(given.answer_id) if table is not None and given.correction is not None else None
            if fault := wrong_label(given, row, tasks):
                raise Faulty(fault)
            return given

        _publish_lines(context, file, "feedback line", build)


def _publish_lines(context: CommandContext, file: str, noun: str, build: Callable[[JsonObject], E]) -> None:
    config = kafka_connection(context.settings)
    with open_items(file, build) as items, RecordPublisher(config) as publisher:
        tally = send_all(publisher, items)
    tally.require_something(file)
    report = {"published": tally.sent.total(), "refused": tally.refused}
    conclude(report, f"published {counted(report['published'], noun)}", as_json=context.json)
    tally.end(file)


def example_of(fields: JsonObject, tasks: Mapping[str, Task], origin: str, *, golden: bool = False) -> ExampleSubmitted:
    """Makes a labelled example of a line's object. Raises Faulty."""
    refuse_unknown(fields, EXAMPLE_FIELDS)
    example = checked(lambda: ExampleSubmitted(**{"origin": origin, **fields}, golden=golden))
    if example.task not in tasks:
        raise Faulty(unknown_task(example.task, tasks))
    if fault := not_a_label(example.output, tasks[example.task], "output"):
        raise Faulty(fault)
    return example


def show_plan(items: Iterable[Item[Document] | Refusal], path: str, *, as_json: bool) -> None:
    """Prints a line for each document that would be sent, withdrawn, passed over or refused; an object for a program.

    Raises EverlearnError where publishing would: when something is refused, and when there is nothing at all.
    """
    tally = Tally()
    found: dict[str, list[str]] = {"send": [], "withdraw": [], "pass over": [], "refuse": []}

    def add(what: str, name: str) -> None:
        name = name.encode("utf-8", "replace").decode()  # a file's name may hold bytes that are no text
        found[what].append(name)
        if not as_json:
            click.echo(f"{what:<9}  {one_line(name, WIDEST_LINE)}")

    for item in items:
        refusal = item if isinstance(item, Refusal) else record_of(item)
        if isinstance(refusal, Refusal):
            tally.refused += 1
            add("refuse", str(refusal))
        elif isinstance(item, Item):
            tally.sent[type(item.value)] += 1
            add("send" if isinstance(item.value, DocumentSubmitted) else "withdraw", item.value.document_id)
    if isinstance(items, Folder):
        for name in sorted(items.listing.passed_over):
            add("pass over", name)
    unchanged = items.unchanged if isinstance(items, Folder) else 0
    if not unchanged:
        tally.require_something(path)
    report = {
        "dry_run": True,
        "send": found["send"],
        "withdraw": found["withdraw"],
        "passed_over": found["pass over"],
        "refused": found["refuse"],
        "unchanged": unchanged,
    }
    conclude(report, _plan_sentence(tally, unchanged, len(found["pass over"])), as_json=as_json)
    tally.end(path)


def _plan_sentence(tally: Tally, unchanged: int, passed_over: int) -> str:
    parts = [f"would publish {counted(tally.sent[DocumentSubmitted], 'document')}"]
    if tally.sent[DocumentWithdrawn]:
        parts.append(f"withdraw {tally.sent[DocumentWithdrawn]:,}")
    parts += [
        f"{count:,} {what}"
        for count, what in ((unchanged, "unchanged"), (passed_over, "passed over"), (tally.refused, "refused"))
        if count
    ]
    return ", ".join(parts)
