"""The README is true: its commands exist, its topic table is the topic table, its tree is the tree."""

from __future__ import annotations

import re
from pathlib import Path

from agents.cli.main import COMMANDS
from schemas.topics import TOPICS, Topic

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def topic_row(topic: Topic) -> str:
    """A topic's row as the README shows it."""
    events = " · ".join(event.__name__ for event in topic.events)
    readers = ", ".join([*topic.readers, *(f"{name} (follows)" for name in topic.followers)]) or "–"
    partitions = f"{topic.partitions}, compacted" if topic.compacted else str(topic.partitions)
    return f"| `{topic.name}` | {topic.key} | {partitions} | {events} | {topic.writer} | {readers} |"


def test_the_topic_table_is_the_one_in_the_code() -> None:
    rows = [line for line in README.splitlines() if re.match(r"\| `[a-z.]+\.v1`", line)]
    assert rows == [topic_row(topic) for topic in TOPICS]


def test_every_command_in_it_exists_and_every_command_is_in_it() -> None:
    used = set(re.findall(r"^everlearn ([a-z]+)", README, re.MULTILINE))
    table = README.partition("| command | what it does |")[2].partition("\n\n")[0]
    listed = {
        word for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for word in re.findall(r"`([a-z]+)", cell)
    }
    assert used <= set(COMMANDS)
    assert listed == set(COMMANDS)


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_its_tree_is_there() -> None:
    tree = README.partition("## Where things are")[2].split("```")[1]
    top = ""
    for line in tree.strip().splitlines():
        names = [word for word in line.split("  ") if word.strip()]
        paths = [word.strip() for word in names if re.fullmatch(r"[a-z_]+(/|\.py)", word.strip())]
        if not line.startswith(" "):
            top = paths[0]
            paths = [""]
        for path in paths:
            assert (ROOT / top / path).exists(), f"{top}{path}"
