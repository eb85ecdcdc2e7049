"""Kills agents, the supervisor and the broker at random moments under load, and audits what is left of the events."""

from __future__ import annotations

import heapq
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from benchmarks.campaign.audit import Findings, audit
from benchmarks.campaign.home import BROKER, SUPERVISOR, CampaignHome, campaign_home
from benchmarks.campaign.load import Load
from benchmarks.campaign.outcome import clean, counts, found
from infra.sql import tables
from infra.sql.database import Database
from schemas.event import JsonObject

MEAN_SECONDS = {
    "recorder": 8.0,
    "monitor": 8.0,
    "promoter": 8.0,
    "trainer": 10.0,
    "validator": 8.0,
    "quantizer": 10.0,
    "loader": 12.0,
    "indexer": 20.0,
    "answerer": 20.0,
    BROKER: 60.0,
    "milvus": 60.0,
    SUPERVISOR: 120.0,
}
"""How long each process lives on average before it is killed. The moments are exponentially distributed."""
RECOVERY_SECONDS = 300.0
"""After the last kill every worker must be ready and everything must be finished within this time."""


def block(seed: int, kills: int, *, rate: float = 1.0, keep: Path | None = None) -> JsonObject:
    """Runs a block and returns its result. ``keep``: a folder for the home, which then remains."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        folder = keep or Path(temporary)
        with campaign_home(folder) as home:
            load = Load(home.settings, seed, model=_register(home), rate=rate)
            load.start()
            killed = _kill(home, load, random.Random(seed), kills)
            load.finish()
            behind = home.until_ready(RECOVERY_SECONDS)
            findings = _settled(home, RECOVERY_SECONDS)
            if behind or not clean(findings):
                print(home.problems(), flush=True)
    return {
        "kind": "kills",
        "seed": seed,
        "done": {"kills": sum(killed.values())},
        "kills": dict(killed),
        **counts(findings),
        "dead_workers": len(behind),
        "found": [*found(findings), *(f"not ready: {each['worker']} {each['state']}" for each in behind)],
        "seconds": round(time.monotonic() - began),
    }


def _kill(home: CampaignHome, load: Load, chance: random.Random, kills: int) -> Counter[str]:
    """Kills so many processes, each at moments of its own, and returns how often each was killed."""
    killed: Counter[str] = Counter()
    last: dict[str, int] = {}
    due = [(time.monotonic() + chance.expovariate(1 / mean), name) for name, mean in MEAN_SECONDS.items()]
    heapq.heapify(due)
    while sum(killed.values()) < kills:
        at, name = due[0]
        time.sleep(max(0.0, at - time.monotonic()))
        heapq.heapreplace(due, (max(at, time.monotonic()) + chance.expovariate(1 / MEAN_SECONDS[name]), name))
        pid = home.pids().get(name)
        if pid is None or pid == last.get(name) or not home.kill(pid):
            continue  # it is still down after its last death
        killed[name] += 1
        last[name] = pid
        if name == SUPERVISOR:
            home.up()
        if sum(killed.values()) % 10 == 0:
            load.adapters = _validated(home)
            print(f"{sum(killed.values())} kills, {load.sent} events", flush=True)
    return killed


def _validated(home: CampaignHome) -> tuple[str, ...]:
    """Returns the adapters that the validator has accepted."""
    runs = tables.runs.c
    database = Database(home.settings.sql_url())
    try:
        with database.connection() as connection:
            found = select(runs.arguments, runs.result).where(runs.agent == "validator", runs.state == "done")
            rows = connection.execute(found).all()
    finally:
        database.close()
    return tuple(str(arguments["adapter_id"]) for arguments, result in rows if result.get("accepted"))


def _register(home: CampaignHome) -> tuple[str, str]:
    (added,) = home.home.json("models", "add", str(home.base), "--name", "tiny", "--no-quantize")
    return "tiny", str(added["version"])


def _settled(home: CampaignHome, seconds: float) -> Findings:
    """Audits until nothing is lost, because runs may still be under way; or returns the last audit after this time."""
    deadline = time.monotonic() + seconds
    while True:
        findings = audit(home.settings)
        if not findings.lost or time.monotonic() > deadline:
            return findings
        time.sleep(3.0)
