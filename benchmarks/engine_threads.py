"""Compares numbers of threads for the engine, alone and on a busy machine: ``python -m benchmarks.engine_threads``.

A round is a long question and eight short ones. The benchmark measures rounds per second of one engine alone, of each
of two engines at once, and of one engine beside a process at nice 10. It does so as shipped (one thread per core), with
one thread, and in a process in which two threads have computed. There each of the two has its own OpenMP helpers;
Everlearn computes in one thread to prevent that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time

import torch

from agents.demo import shop
from benchmarks.routing_messages import MAX_TOKENS, prompts, settings_in
from infra.engines.transformers import TransformersEngine
from infra.models.threads import in_compute_thread
from schemas.generation import ChatMessage, GenerationRequest

WAYS = ("as shipped", "one thread", "two computing threads")
SECONDS = 10.0
LOADING = 25.0
"""Seconds for each engine to load, before all engines start together."""
NEIGHBOUR = "import os\nos.nice(10)\nwhile True: pass"


def work(way: str, begin: float) -> None:
    """Answers questions from a point in time on, for ``SECONDS``, and prints the rounds per second."""
    messages = shop.messages("examples")
    long = ChatMessage("user", " ".join(row.text for row in messages[:60]))
    rounds = (
        [GenerationRequest(messages=(long,), max_tokens=16)],
        [GenerationRequest(messages=each, max_tokens=MAX_TOKENS) for each in prompts(messages[:8])],
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = TransformersEngine.load(settings_in(folder))
    if way == "one thread":
        in_compute_thread(torch.set_num_threads)(1)

    def answer() -> int:
        done, until = 0, time.time() + SECONDS
        while time.time() < until:
            for asked in rounds:
                engine.generate(asked)
            done += 1
        return done

    def stay() -> float:
        numbers = torch.rand(600, 600)
        product = numbers @ numbers
        time.sleep(max(0.0, begin - time.time()) + 20 * SECONDS)
        return float(product[0, 0])

    for asked in rounds:
        engine.generate(asked)
    if way == "two computing threads":
        threading.Thread(target=stay, daemon=True).start()
    if time.time() > begin:
        sys.exit("loading took too long: run it again when less runs beside it")
    time.sleep(begin - time.time())
    started = time.time()
    done = answer()
    print(f"{done / (time.time() - started):.3f}", flush=True)
    os._exit(0)  # the second computing thread may still be there


def rate(way: str, engines: int) -> float:
    """Returns the rounds per second, as the mean of all engines."""
    begin = time.time() + LOADING * engines
    command = [sys.executable, "-m", "benchmarks.engine_threads", "--way", way, "--begin", str(begin)]
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ}  # as the workers have it
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        for _ in range(engines)
    ]
    said = [each.communicate()[0] for each in running]
    if any(each.returncode for each in running):
        sys.exit(f"an engine failed ({way}): it took too long to load, or the model is missing; run it again")
    return sum(map(float, said)) / engines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        work(given.way, given.begin)
    print(f"{torch.get_num_threads()} threads, rounds/s")
    print("| | alone | each of two engines | beside a process at nice 10 |")
    print("|---|---|---|---|")
    for way in WAYS:
        alone, pair = rate(way, 1), rate(way, 2)
        with subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) as neighbour:
            beside = rate(way, 1)
            neighbour.kill()
        print(f"| {way} | {alone:.2f} | {pair:.2f} | {beside:.2f} |", flush=True)


if __name__ == "__main__":
    main()
