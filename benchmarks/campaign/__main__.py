"""Runs seeded blocks of long experiments: ``python -m benchmarks.campaign KIND [--blocks N] [--seed S] [--report]``.

Each block is a new home or a new broker with a seed of its own. Its result is appended to ``.cache/campaign.jsonl``, so
the results of several runs add up. ``--report`` prints the totals.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.campaign import kills, results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=["kills"])
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--seed", type=int, help="of the first block; default: one more than the last")
    parser.add_argument("--kills", type=int, default=60, help="per block")
    parser.add_argument("--keep", type=Path, help="keeps the homes of the blocks in this folder")
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
        keep = options.keep / f"{options.kind}-{seed}" if options.keep else None
        result = kills.block(seed, options.kills, keep=keep)
        results.append(options.results, result)
        print(json.dumps({name: value for name, value in result.items() if name != "found"}))
        for line in result["found"]:
            print(line)
        failed = failed or any(result[name] for name in results.COUNTED if name != "events")
    if options.report:
        print(results.report(results.read(options.results)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
