"""``everlearn publish documents`` of a folder: every format, again and again, and looked at before it is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.documents import DocumentSubmitted
from schemas.kafka import KafkaConnection
from tests.agents.cli.conftest import Everlearn, write_lines
from tests.agents.cli.peers import Peer, indexes
from tests.infra.documents import docx, pdf, pptx_file, xlsx


@pytest.fixture
def indexer(kafka_config: KafkaConnection):
    with Peer(kafka_config, "documents.v1", indexes) as peer:
        yield peer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    (made / "sub").mkdir(parents=True)
    (made / "a.md").write_text("# Alpha\n\ntext")
    (made / "b.txt").write_text("plain")
    (made / "logo.png").write_bytes(b"\x89PNG")
    return made


def counts(report: dict) -> dict[str, int]:
    return {name: report[name] for name in ("published", "withdrawn", "unchanged", "refused", "documents")}


def test_a_file_of_every_format_becomes_a_document(everlearn: Everlearn, indexer: Peer, folder: Path):
    (folder / "sub" / "c.html").write_text("<h1>Gamma</h1><p>text")
    (folder / "d.pdf").write_bytes(pdf((12, 700, "text"), title="Delta"))
    (folder / "e.docx").write_bytes(docx("text", heading="Epsilon"))
    (folder / "f.pptx").write_bytes(pptx_file())
    (folder / "g.xlsx").write_bytes(xlsx(title="Eta", A=[["x", "y"]]))
    (folder / "h.csv").write_text("x,y\n1,2\n")
    (folder / "i.json").write_text('{"title": "Iota"}')
    (folder / "bad.docx").write_bytes(b"not one")
    result = everlearn(
        "publish", "documents", folder, "--wait", "--tenant", "acme", "--metadata", "lang=en", "--metadata", "year=2024"
    )
    assert result.code == 1
    assert result.err.splitlines() == [
        f"{folder}/bad.docx: is damaged, or no .docx file: File is not a zip file",
        "passed over 1 file of other kinds than can be published: 1 .png",
        f"error: 1 item of {folder} refused, as shown above: fix these and publish again",
    ]
    assert "published 9 documents, 9 of 9 are indexed" in result.out
    seen = [each for each in indexer.seen if isinstance(each, DocumentSubmitted)]
    assert {each.document_id: (each.title, each.format) for each in seen} == {
        "a.md": ("Alpha", "markdown"),
        "b.txt": ("b.txt", "text"),
        "sub/c.html": ("Gamma", "markdown"),
        "d.pdf": ("Delta", "markdown"),
        "e.docx": ("Epsilon", "markdown"),
        "f.pptx": ("Refunds", "markdown"),
        "g.xlsx": ("Eta", "markdown"),
        "h.csv": ("h.csv", "markdown"),
        "i.json": ("Iota", "markdown"),
    }
    assert all(each.metadata == {"lang": "en", "year": 2024} and each.tenant == "acme" for each in seen)


def test_a_folder_published_again_sends_what_changed(everlearn: Everlearn, indexer: Peer, folder: Path):
    def publish(*options: str) -> dict[str, int]:
        result = everlearn("publish", "documents", folder, "--wait", "--json", *options)
        assert result.code == 0, result.err
        assert result.lines[0]["indexed"] == result.lines[0]["documents"]
        return counts(result.lines[0])

    assert publish() == {"published": 2, "withdrawn": 0, "unchanged": 0, "refused": 0, "documents": 2}
    assert publish() == {"published": 0, "withdrawn": 0, "unchanged": 2, "refused": 0, "documents": 0}
    (folder / "a.md").write_text("# Alpha\n\nanother text")
    (folder / "b.txt").unlink()
    (folder / "c.md").write_text("new")
    os.utime(folder / "c.md", (1, 1))
    assert publish() == {"published": 2, "withdrawn": 1, "unchanged": 0, "refused": 0, "documents": 3}
    assert publish("--tenant", "acme")["published"] == 2
    assert publish("--all")["published"] == 2
    nothing = everlearn("publish", "documents", folder)
    assert nothing.code == 0
    assert nothing.out.startswith("nothing changed since 20")
    assert nothing.out.endswith(" (2 documents)\n")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    everlearn: Everlearn, without_kafka: Everlearn, home: Path, folder: Path, tmp_path: Path
):
    first = without_kafka("publish", "documents", folder, "--dry-run", "--json")
    assert first.code == 0
    assert first.lines == [
        {
            "dry_run": True,
            "send": ["a.md", "b.txt"],
            "withdraw": [],
            "passed_over": ["logo.png"],
            "refused": [],
            "unchanged": 0,
        }
    ]
    assert not list((tmp_path / "alone").glob("*.db"))
    everlearn("publish", "documents", folder)
    (folder / "a.md").unlink()
    (folder / "c.md").write_text("\0")
    for _ in range(2):
        result = everlearn("publish", "documents", folder, "--dry-run")
        assert result.code == 1
        assert result.out.splitlines() == [
            f"refuse     {folder}/c.md: holds NUL bytes, so it is not a text file",
            "withdraw   a.md",
            "pass over  logo.png",
            "would publish 0 documents, withdraw 1, 1 unchanged, 1 passed over, 1 refused",
        ]


def test_odd_file_names_cost_a_line_at_most(everlearn: Everlearn, folder: Path):
    (folder / "two\nlines.md").write_text("\0")
    (folder / 'a "quoted" one.md').write_text("text")
    for name in (b"caf\xe9.md", b"caf\xe9.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("text")
    looked = everlearn("publish", "documents", folder, "--dry-run", "--json")
    [report] = looked.lines
    assert report["send"] == ['a "quoted" one.md', "a.md", "b.txt"]
    assert report["passed_over"] == ["caf?.png", "logo.png"]
    result = everlearn("publish", "documents", folder)
    assert result.code == looked.code == 1
    assert result.err.splitlines() == [
        f"{folder}/caf\ufffd.md: has a name that is not UTF-8: rename it",
        f"{folder}/two lines.md: holds NUL bytes, so it is not a text file",
        "passed over 2 files of other kinds than can be published: 2 .png",
        f"error: 2 items of {folder} refused, as shown above: fix these and publish again",
    ]


def test_a_folder_that_has_vanished_or_become_empty_withdraws_nothing(everlearn: Everlearn, folder: Path):
    everlearn("publish", "documents", folder)
    away = folder.rename(folder.with_name("away"))
    gone = everlearn("publish", "documents", folder)
    assert (gone.code, gone.out) == (2, "")
    folder.mkdir()
    empty = everlearn("publish", "documents", folder)
    assert (empty.code, empty.out) == (1, "")
    assert "is empty, and 2 documents were published from it: nothing is withdrawn" in empty.err
    folder.rmdir()
    away.rename(folder)
    assert counts(everlearn("publish", "documents", folder, "--json").lines[0])["unchanged"] == 2


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"title": "T"}', ["one.json"]),
        ('{\n"id": "x", "text": "y"}', ["one.json"]),
        ('{"id": "x", "text": "y"}', ["x"]),
    ],
)
def test_a_json_file_by_itself_is_a_document_unless_it_holds_lines(
    without_kafka: Everlearn, tmp_path: Path, text: str, sent: list[str]
):
    (tmp_path / "one.json").write_text(text)
    result = without_kafka("publish", "documents", tmp_path / "one.json", "--dry-run", "--json")
    assert result.lines[0]["send"] == sent


def test_metadata_is_read_as_numbers_truths_and_texts(everlearn: Everlearn, indexer: Peer, tmp_path: Path):
    path = write_lines(tmp_path / "docs.jsonl", {"id": "a", "text": "A", "metadata": {"n": 0}})
    options = ["n=1", "x=1.5", "ok=true", "zip=007", 'quoted="12"', "t=a=b", "empty=", "nan=NaN", "list=[1]"]
    words = [word for each in options for word in ("--metadata", each)]
    assert everlearn("publish", "documents", path, "--wait", *words).code == 0
    [event] = indexer.seen
    assert isinstance(event, DocumentSubmitted)
    assert event.metadata == {
        "n": 0,
        "x": 1.5,
        "ok": True,
        "zip": "007",
        "quoted": "12",
        "t": "a=b",
        "empty": "",
        "nan": "NaN",
        "list": "[1]",
    }


@pytest.mark.parametrize("options", [["novalue"], ["=1"], ["k" * 65 + "=1"], ["a=1", "a=2"]])
def test_wrong_metadata_is_misuse(without_kafka: Everlearn, tmp_path: Path, options: list[str]):
    words = [word for each in options for word in ("--metadata", each)]
    assert without_kafka("publish", "documents", tmp_path, *words).code == 2
