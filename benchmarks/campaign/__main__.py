"""Runs seeded blocks of long experiments: ``python -m benchmarks.campaign KIND [--blocks N] [--seed S] [--report]``.

Each block is a new home or a new broker with a seed of its own. Its result is appended to ``.cache/campaign.jsonl``, so
the results of several runs add up. ``--report`` prints the totals.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.campaign import clocks, kills, results, shuffled, slow_consumer
from schemas.event import JsonObject

KINDS = ("kills", "shuffled", "slow", "clocks")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=KINDS)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--seed", type=int, help="of the first block; default: one more than the last")
    parser.add_argument("--kills", type=int, default=100, help="of a block of kills")
    parser.add_argument(
        "--events", type=int, default=100_000, help="of a shuffled block; each is delivered three times"
    )
    parser.add_argument("--rate", type=float, default=5.0, help="events a second in the hour of the slow consumer")
    parser.add_argument("--seconds", type=float, default=90.0, help="of a block with wrong clocks")
    parser.add_argument("--keep", type=Path, help="keeps the homes of blocks of kills in this folder")
    parser.add_argument("--results", type=Path, default=results.DEFAULT)
    parser.add_argument("--report", action="store_true", help="prints the totals")
    options = parser.parse_args()
    if options.kind is None and not options.report:
        parser.error("name a kind of block, or --report")
    failed = False
    for number in range(options.blocks if options.kind else 0):
        seed = (
            results.next_seed(results.read(options.results), options.kind)
            if options.seed is None
            else options.seed + number
        )
        result = run(options, seed)
        results.append(options.results, result)
        print(json.dumps({name: value for name, value in result.items() if name != "found"}))
        for line in result["found"]:
            print(line)
        failed = failed or any(result[name] for name in results.COUNTED if name != "events")
    if options.report:
        print(results.report(results.read(options.results)))
    return 1 if failed else 0


def run(options: argparse.Namespace, seed: int) -> JsonObject:
    """Runs one block, and returns its result."""
    if options.kind == "shuffled":
        return shuffled.block(seed, options.events)
    if options.kind == "slow":
        return slow_consumer.block(seed, options.rate, pause_seconds=0.002)
    if options.kind == "clocks":
        return clocks.block(seed, options.seconds)
    keep = options.keep / f"{options.kind}-{seed}" if options.keep else None
    return kills.block(seed, options.kills, keep=keep)


if __name__ == "__main__":
    sys.exit(main())
