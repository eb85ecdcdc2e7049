"""Keeps the results of the blocks, one JSON line each, and adds them up to the table of docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.question_flow import CACHE
from schemas.event import JsonObject

DEFAULT = CACHE / "campaign.jsonl"
COUNTED = ("events", "lost", "doubled", "dead_letters", "given_up", "dead_workers")
"""The counts of a block. All except ``events`` must be 0."""


def append(path: Path, result: JsonObject) -> None:
    """Adds the result of a block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(result)}\n")


def read(path: Path) -> list[JsonObject]:
    """Returns the results so far, oldest first."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def next_seed(results: Iterable[JsonObject], kind: str) -> int:
    """Returns the seed of the next block of a kind: one more than the greatest so far, so that no block repeats."""
    return max((int(result["seed"]) for result in results if result["kind"] == kind), default=0) + 1


def report(results: Sequence[JsonObject]) -> str:
    """Returns the totals as tables in Markdown."""
    lines = [
        "| block | blocks | what was done | events | lost | doubled | dead letters | runs given up | dead workers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(str(result["kind"]) for result in results):
        blocks = [result for result in results if result["kind"] == kind]
        totals = [f"{sum(int(block[name]) for block in blocks):,}" for name in COUNTED]
        lines.append(f"| {kind} | {len(blocks)} | {_done(blocks)} | {' | '.join(totals)} |")
    kills = total_kills(results)
    if kills:
        lines += ["", "| killed | " + " | ".join(kills) + " | all |", "|---" * (len(kills) + 2) + "|"]
        lines.append("| times | " + " | ".join(map(str, kills.values())) + f" | {sum(kills.values())} |")
    return "\n".join(lines)


def total_kills(results: Iterable[JsonObject]) -> dict[str, int]:
    """Returns how often each process was killed in all blocks."""
    kills: Counter[str] = Counter()
    for result in results:
        kills.update(result.get("kills", {}))
    return dict(sorted(kills.items()))


def _done(blocks: Sequence[JsonObject]) -> str:
    done: Counter[str] = Counter()
    for block in blocks:
        done.update(block.get("done", {}))
    return ", ".join(f"{count:,} {what}" for what, count in done.items())
