"""A folder's files are found once each, links lead nowhere else, and a closed folder is not an empty one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents.cli.documents import list_folder
from schemas.errors import EverlearnError


def test_files_that_can_be_published_are_told_from_the_others(tmp_path: Path):
    for name in ("b.md", "a.PDF", "sub/c.html", "d.png", "e", "f.jsonl", ".hidden.md", ".git/g.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "pipe.md")
    found = list_folder(tmp_path)
    assert found.files == {each: tmp_path / each for each in ("a.PDF", "b.md", "sub/c.html")}
    assert list(found.files) == sorted(found.files)
    assert found.passed_over == {"d.png": ".png", "e": "no ending", "f.jsonl": ".jsonl", "pipe.md": "special file"}


def test_links_are_followed_to_files_in_the_folder_alone(tmp_path: Path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("x")
    (tmp_path / "secret.md").write_text("x")
    (folder / "inside.md").symlink_to("a.md")
    (folder / "outside.md").symlink_to(tmp_path / "secret.md")
    (folder / "broken.md").symlink_to("nothing.md")
    (folder / "circle.md").symlink_to("circle.md")
    (folder / "sub" / "up").symlink_to(folder)
    found = list_folder(folder)
    assert list(found.files) == ["a.md", "inside.md"]
    assert found.passed_over == dict.fromkeys(("outside.md", "broken.md", "circle.md", "sub/up"), "link")


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path):
    with pytest.raises(
        EverlearnError, match=r"docs cannot be read \(No such file or directory\): nothing is published"
    ):
        list_folder(tmp_path / "docs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what is closed to others")
def test_what_a_closed_folder_holds_is_not_known(tmp_path: Path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    found = list_folder(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert [each.reason for each in found.refusals] == ["cannot be read: Permission denied"]
    assert found.may_hold("closed/a.md")
    assert not found.may_hold("closed.md")
