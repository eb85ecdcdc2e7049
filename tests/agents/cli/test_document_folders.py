"""Of a folder only what changed is sent, and only what was confirmed is remembered."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.cli.documents import DocumentFiles, DocumentLines, Folder, Indexed, Listing, list_folder
from agents.cli.jsonl import Item, Refusal
from agents.cli.sending import CONFIRM_EVERY, send_all
from infra.conversion import Converter
from infra.published_files import PublishedFiles
from schemas.documents import DocumentSubmitted
from schemas.envelope import Record
from schemas.errors import EverlearnError, Unavailable

LONG_AGO = 1_700_000_000


class Site:
    """A folder to be published, and the home that remembers it."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "docs"
        self.path.mkdir(parents=True)
        self.published = PublishedFiles(tmp_path / "published.db", "embedded", "default", self.path)

    def write(self, name: str, text: str, at: int = LONG_AGO) -> None:
        path = self.path / name
        path.write_text(text)
        os.utime(path, (at, at))

    def folder(
        self,
        *,
        everything: bool = False,
        listing: Listing | None = None,
        indexed: Indexed | None = None,
        **metadata: str,
    ) -> Folder:
        build = DocumentLines(clock=lambda: datetime.now(UTC), metadata=dict(metadata))
        return Folder(
            path=self.path,
            listing=list_folder(self.path) if listing is None else listing,
            files=DocumentFiles(build=build, converter=Converter()),  # it starts no process for .md files
            published=self.published,
            everything=everything,
            indexed=indexed,
        )

    def publish(self, **options) -> tuple[list[str], list[str], list[str]]:
        """What is sent, withdrawn and refused; all that is sent is confirmed."""
        folder = self.folder(**options)
        found = list(folder)
        events = [each.value for each in found if isinstance(each, Item)]
        folder.confirmed(events)
        folder.finished()
        sent = [each.document_id for each in events if isinstance(each, DocumentSubmitted)]
        withdrawn = [each.document_id for each in events if not isinstance(each, DocumentSubmitted)]
        return sent, withdrawn, [Path(each.place).name for each in found if isinstance(each, Refusal)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.write("a.md", "A")
    made.write("b.md", "B")
    return made


def test_what_changed_is_sent_and_what_is_gone_withdrawn(site: Site):
    assert site.publish() == (["a.md", "b.md"], [], [])
    assert site.publish() == ([], [], [])
    site.write("b.md", "B2", LONG_AGO + 1)
    site.write("c.md", "C")
    (site.path / "a.md").unlink()
    assert site.publish() == (["b.md", "c.md"], ["a.md"], [])
    assert site.publish() == ([], [], [])


def test_two_folders_do_not_overwrite_each_others_documents(site: Site, tmp_path: Path):
    site.publish()
    other = Site(tmp_path / "wiki")
    other.published = replace(site.published, folder=other.path)
    other.write("b.md", "another B")
    other.write("z.md", "Z")
    assert other.publish() == (["z.md"], [], ["b.md"])
    (refusal,) = [each for each in other.folder() if isinstance(each, Refusal)]
    assert f"'b.md' was published from {site.path}: " in str(refusal)
    assert other.publish(listing=list_folder(other.path, "wiki/")) == (["wiki/b.md", "wiki/z.md"], ["z.md"], [])
    assert other.publish(listing=list_folder(other.path, "wiki/")) == ([], [], [])
    (site.path / "b.md").unlink()
    assert site.publish() == ([], ["b.md"], [])


def test_a_folder_that_takes_a_document_over_has_it_alone(site: Site, tmp_path: Path):
    site.publish()
    other = Site(tmp_path / "wiki")
    other.published = replace(site.published, folder=other.path)
    other.write("b.md", "another B")
    assert other.publish(everything=True) == (["b.md"], [], [])
    assert other.publish() == ([], [], [])
    assert site.publish() == ([], [], ["b.md"])
    (site.path / "b.md").unlink()
    assert site.publish() == ([], [], [])


def test_a_folder_that_was_moved_is_no_other_folder(site: Site, tmp_path: Path):
    site.publish()
    moved = tmp_path / "moved"
    site.path.rename(moved)
    site.path, site.published = moved, replace(site.published, folder=moved)
    assert site.publish() == (["a.md", "b.md"], [], [])


def test_a_touched_but_equal_file_is_not_sent_and_not_read_again(site: Site):
    site.publish()
    site.write("a.md", "A", LONG_AGO + 1)
    assert site.publish() == ([], [], [])
    assert site.published.load()["a.md"].mtime_ns == (LONG_AGO + 1) * 10**9


def test_a_file_that_was_just_written_is_compared_by_its_content(site: Site):
    site.write("a.md", "one", int(datetime.now(UTC).timestamp()))
    site.publish()
    status = (site.path / "a.md").stat()
    (site.path / "a.md").write_text("two")
    os.utime(site.path / "a.md", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert site.publish() == (["a.md"], [], [])


def test_only_what_was_confirmed_is_remembered(site: Site):
    folder = site.folder()
    first, _second = (each.value for each in folder if isinstance(each, Item))
    folder.confirmed([first])
    assert site.publish() == (["b.md"], [], [])


class Broker:
    """Confirms so many batches, then is gone."""

    def __init__(self, batches: int) -> None:
        self._batches = batches

    def send(self, record: Record) -> None:
        assert record.topic == "documents.v1"

    def flush(self) -> None:
        self._batches -= 1
        if self._batches < 0:
            raise Unavailable("Kafka does not answer")


def test_a_publish_that_breaks_off_goes_on_where_kafka_last_confirmed(site: Site):
    for number in range(CONFIRM_EVERY):
        site.write(f"{number:03}.txt", "text")
    folder = site.folder()
    with pytest.raises(Unavailable):
        send_all(Broker(batches=1), folder, on_confirmed=folder.confirmed)
    assert site.publish() == (["a.md", "b.md"], [], [])


def test_a_refused_file_is_tried_again_and_keeps_what_was_published(site: Site):
    site.publish()
    site.write("a.md", "bad\0", LONG_AGO + 1)
    site.write("new.md", "")
    for _ in range(2):
        assert site.publish() == ([], [], ["a.md", "new.md"])
    site.write("a.md", "A", LONG_AGO + 2)
    site.write("new.md", "N")
    assert site.publish() == (["new.md"], [], [])  # a.md is again what was published


def test_other_metadata_and_everything_send_all_anew(site: Site):
    site.publish()
    assert site.publish(lang="en") == (["a.md", "b.md"], [], [])
    assert site.publish(lang="en") == ([], [], [])
    assert site.publish(lang="en", everything=True) == (["a.md", "b.md"], [], [])


def test_a_file_that_vanishes_after_it_was_listed_is_withdrawn_the_next_time(site: Site):
    site.publish()
    listing = list_folder(site.path)
    site.write("b.md", "B2", LONG_AGO + 1)
    (site.path / "a.md").unlink()
    assert site.publish(listing=listing) == (["b.md"], [], ["a.md"])
    assert site.publish() == ([], ["a.md"], [])


def test_an_empty_folder_withdraws_nothing_unless_it_is_said_to_be_right(site: Site):
    site.publish()
    for each in site.path.iterdir():
        each.unlink()
    with pytest.raises(EverlearnError, match="is empty, and 2 documents were published from it: nothing is withdrawn"):
        site.publish()
    assert site.publish(everything=True) == ([], ["a.md", "b.md"], [])


def test_what_a_folder_that_cannot_be_read_held_is_not_withdrawn(site: Site):
    (site.path / "sub").mkdir()
    site.write("sub/c.md", "C")
    site.publish()
    known = list_folder(site.path)
    closed = replace(known, files={"a.md": site.path / "a.md"}, unreadable=["sub"], refusals=[Refusal("sub", "closed")])
    assert site.publish(listing=closed) == ([], ["b.md"], ["sub"])


class Known:
    """What SQL holds, by document id."""

    def __init__(self, site: Site, minutes_ago: float = 60) -> None:
        """Publishes the site; ``minutes_ago`` is when."""
        site.publish()
        with closing(sqlite3.connect(site.published.path)) as database, database:
            sent = datetime.now(UTC) - timedelta(minutes=minutes_ago)
            database.execute("UPDATE published_files SET published_at = ?", [sent.isoformat()])
        self.times = {name: state.submitted_at or sent for name, state in site.published.load().items()}

    def __call__(self, names: Sequence[str]) -> dict[str, datetime]:
        return {name: self.times[name] for name in names if name in self.times}


def test_a_document_that_sql_has_lost_is_sent_again_and_the_others_are_not(site: Site):
    site.write("c.md", "C")
    known = Known(site)
    del known.times["a.md"]
    known.times["b.md"] -= timedelta(days=1)  # of a backup
    assert site.publish(indexed=known) == (["a.md", "b.md"], [], [])
    assert site.publish() == ([], [], [])


def test_a_document_that_sql_knows_as_withdrawn_later_stays_withdrawn(site: Site):
    known = Known(site)
    known.times["a.md"] += timedelta(minutes=1)
    assert site.publish(indexed=known) == ([], [], [])


def test_a_document_that_was_sent_just_now_may_still_be_on_its_way(site: Site):
    known = Known(site, minutes_ago=1)
    known.times.clear()
    assert site.publish(indexed=known) == ([], [], [])


def test_a_document_that_an_earlier_version_published_need_only_be_there(site: Site):
    known = Known(site)
    with closing(sqlite3.connect(site.published.path)) as database, database:
        database.execute("UPDATE published_files SET submitted_at = NULL")
    known.times = {"a.md": datetime(2020, 1, 1, tzinfo=UTC)}
    assert site.publish(indexed=known) == (["b.md"], [], [])
