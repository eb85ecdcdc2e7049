"""The demo's messages as a task for the base model, shared by the benchmarks of training and of answering."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from agents.demo import shop
from agents.prompt import build_prompt
from infra.settings import Settings
from schemas.generation import ChatMessage
from schemas.policies import ModelSettings
from schemas.tasks import Task

CACHE = Path(os.environ.get("EVERLEARN_CACHE") or Path(__file__).parents[1] / ".cache")
MAX_TOKENS = 6
TASK = Task(
    name="routing",
    instruction="Which team handles this message?",
    metric="exact_match",
    labels=shop.TEAMS,
    max_tokens=MAX_TOKENS,
)


def prompts(rows: Sequence[shop.CustomerMessage]) -> list[tuple[ChatMessage, ...]]:
    """Returns the prompts that an answerer makes of the messages."""
    return [build_prompt(TASK, row.text, (), (), budget=1000, count=lambda _: 0).messages for row in rows]


def options(doc: str | None, *, batch: int) -> tuple[list[shop.CustomerMessage], int]:
    """Returns the messages and the batch size that the command line asks for. ``doc``: the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch", type=int, default=batch)
    given = parser.parse_args()
    return shop.messages("examples")[: given.rows], given.batch


def settings_in(home: str) -> Settings:
    """Returns settings that use the models in this checkout's cache."""
    return Settings(home=Path(home), model=ModelSettings(folder=CACHE / "models"))
