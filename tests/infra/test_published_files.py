"""The published files of a folder are stored for one tenant of one Kafka, apart from all others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra.published_files import FileState, PublishedFiles
from schemas.errors import Unavailable

STATE = FileState(5, 10, "aa", "{}")


@pytest.fixture
def published(tmp_path: Path) -> PublishedFiles:
    return PublishedFiles(tmp_path / "home" / "published.db", "embedded", "default", tmp_path / "docs")


def test_what_was_never_published_makes_no_database(published: PublishedFiles):
    assert published.load() == {}
    assert published.last_published() is None
    assert not published.path.exists()


def test_files_are_remembered_until_they_are_withdrawn(published: PublishedFiles):
    published.remember({"a": STATE, "b": replace(STATE, mtime_ns=None)})
    published.remember({"a": replace(STATE, sha256="bb"), "c": STATE}, ["b"])
    assert published.load() == {"a": replace(STATE, sha256="bb"), "c": STATE}


def test_a_touched_file_was_not_sent_again(published: PublishedFiles):
    published.remember({"a": STATE})
    sent = published.last_published()
    published.refresh({"a": replace(STATE, mtime_ns=6)})
    assert published.load() == {"a": replace(STATE, mtime_ns=6)}
    assert published.last_published() == sent is not None


def test_another_tenant_folder_or_kafka_has_files_of_its_own(published: PublishedFiles):
    published.remember({"a": STATE})
    others = [
        replace(published, tenant="acme"),
        replace(published, folder=published.folder / "sub"),
        replace(published, cluster="kafka:9092"),
    ]
    assert [each.load() for each in others] == [{}, {}, {}]


def test_a_folder_whose_name_is_not_unicode_is_remembered(published: PublishedFiles):
    odd = replace(published, folder=Path("/docs\udcff"))
    odd.remember({"a": STATE})
    assert odd.load() == {"a": STATE}


def test_a_database_that_is_none_is_named_with_what_to_do(published: PublishedFiles):
    published.path.parent.mkdir()
    published.path.write_text("not a database, but long enough to be told from an empty one" * 20)
    with pytest.raises(Unavailable, match=r"published\.db cannot be used \(file is not a database\): .* remove it"):
        published.load()
