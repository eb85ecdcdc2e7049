"""The demo's kayak workshop: its pages, its customers' messages with the right answers, and its configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.words import comparable

DATA = Path(__file__).parent / "data"
DOCUMENTS = DATA / "documents.jsonl"
LAUNCH_DOCUMENTS = DATA / "launch_documents.jsonl"
TASK = "routing"
TEAMS = ("orders", "delivery", "returns", "repairs", "courses", "account", "skates")

CONFIGURATION = """\
# The demo's home: two tasks, and policies that suit a few hundred messages instead of many thousands.

[model]
threads = {threads}

[monitor]
reference_rows = 100
current_rows = 60
every_rows = 30
cool_down_seconds = 900
tick_seconds = 5

[trainer]
minimum_rows = 40
epochs = 2
learning_rate = 8.5e-4
replay_share = 0.4

[validator]
current_rows = 80
retention_rows = 60
# An adapter that only ever answers with a label may write worse prose.
max_general_loss = 0.6

[promoter]
shares = [0.5]
judged = 20
margin = 0.1
watch_seconds = 900
tick_seconds = 1

[tasks.support]
instruction = "You answer questions of a kayak shop's customers. Use only the sources, and be brief."
retrieval = true
metric = "token_f1"
top_k = 2
min_score = 0.4
max_tokens = 40

[tasks.routing]
instruction = "Which team handles this message?"
retrieval = false
metric = "exact_match"
labels = {labels}
max_tokens = 6
"""


@dataclass(frozen=True, kw_only=True)
class CustomerMessage:
    """A customer's message and the team that it belongs to. ``split``: what the demo uses it for."""

    id: str
    split: str
    text: str
    label: str
    user: str


def messages(*splits: str) -> list[CustomerMessage]:
    """The messages of those splits, in the order of the file; all where none is named."""
    rows = [CustomerMessage(**json.loads(line)) for line in (DATA / "messages.jsonl").read_text("utf-8").splitlines()]
    return [row for row in rows if not splits or row.split in splits]


def interleaved(*groups: Sequence[CustomerMessage]) -> list[CustomerMessage]:
    """All messages of the groups, each group spread evenly over the whole."""
    places = [((place + 0.5) / len(group), message) for group in groups for place, message in enumerate(group)]
    return [message for _, message in sorted(places, key=lambda each: (each[0], each[1].id))]


def configuration(threads: int = 1) -> str:
    """The demo's ``everlearn.toml``. ``threads``: of each worker with a model."""
    return CONFIGURATION.format(threads=threads, labels=json.dumps(list(TEAMS)))


def write_examples(path: Path, rows: Sequence[CustomerMessage]) -> Path:
    """A file for ``everlearn publish examples``."""
    lines = (json.dumps({"task": TASK, "input": row.text, "output": row.label}) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def is_right(answer: str, message: CustomerMessage) -> bool:
    """Exact match, as the task's metric has it."""
    return comparable(answer) == comparable(message.label)
