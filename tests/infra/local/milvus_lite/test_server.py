"""The embedded Milvus server survives what happens to servers, and keeps what was written."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.small_disk import Balloon, CannotMount, small_disk
from infra.local.free_port import free_port
from infra.local.milvus_lite import program as milvus
from infra.milvus.stores import MilvusChunks
from schemas.errors import EverlearnError, Unavailable
from schemas.retrieval import Chunk
from tests.fixtures.milvus import PrivateMilvus
from tests.flows.waiting import until

DIMENSION = 16
MakeServer = Callable[[], PrivateMilvus]


def store(server: PrivateMilvus) -> MilvusChunks:
    return MilvusChunks(server.uri, None, "test", DIMENSION)


def write(chunks: MilvusChunks, name: str, count: int) -> None:
    written = [
        Chunk(
            chunk_id=f"{name}-{number}",
            tenant="default",
            document_id=name,
            version=name,
            ordinal=number,
            text="x" * 500,
        )
        for number in range(count)
    ]
    chunks.upsert(written, np.random.default_rng(1).standard_normal((count, DIMENSION)).astype(np.float32))


def write_many(chunks: MilvusChunks, name: str, documents: int) -> None:
    for number in range(documents):
        write(chunks, f"{name}-{number}", 500)


def search(chunks: MilvusChunks, k: int) -> int:
    return len(chunks.search(np.ones((1, DIMENSION), dtype=np.float32), tenant="default", k=k)[0])


def test_nothing_is_lost_or_back_after_a_sigkill_and_a_start_on_another_port(milvus_server: MakeServer) -> None:
    server = milvus_server()
    before = store(server)
    write(before, "kept", 700)
    write(before, "deleted", 300)
    before.delete([("default", "deleted", "deleted")])
    server.kill()
    server.start(free_port())
    after = store(server)
    assert after.versions("default", "kept") == {"kept": 700}
    assert after.versions("default", "deleted") == {}
    before.close()
    after.close()


def test_writers_at_once_and_a_sigkill_lose_nothing(milvus_server: MakeServer) -> None:
    server = milvus_server()

    def run(name: str) -> None:
        chunks = store(server)
        for part in range(10):
            write(chunks, f"{name}-{part}", 50)
        chunks.close()

    writers = [threading.Thread(target=run, args=(f"w{number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    server.kill()
    server.start()
    chunks = store(server)
    assert search(chunks, 3000) == 2000
    chunks.close()


def test_a_record_that_was_half_written_loses_none_of_those_before_and_after_it(milvus_server: MakeServer) -> None:
    server = milvus_server()
    chunks = store(server)
    write(chunks, "before", 100)
    assert server.process is not None
    log = max(server.folder.rglob("wal_data_*.arrow"), key=lambda each: each.stat().st_size)
    full = (
        log.stat().st_size + 20_000
    )  # no file may be longer: as on a disk that becomes full in the middle of a record
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (full, full))
    with pytest.raises(EverlearnError):
        write(chunks, "during", 500)
    assert server.process.wait(20) == -signal.SIGKILL, "what it holds in memory is not what is in its log any more"
    assert "cannot be written, so the server starts again" in server.log()
    server.start()
    write(chunks, "after", 100)
    server.kill()
    server.start()
    assert chunks.versions("default", "before") == {"before": 100}
    assert chunks.versions("default", "after") == {"after": 100}
    chunks.close()


def test_rows_that_could_not_be_written_out_of_memory_are_there_after_the_next_start(milvus_server: MakeServer) -> None:
    server = milvus_server()
    chunks = store(server)
    write(chunks, "first", 100)
    (collection,) = (each.parent for each in server.folder.rglob("wal"))
    segments = collection / "partitions" / "_default" / "data"
    segments.parent.mkdir(parents=True, exist_ok=True)
    segments.write_text("")  # a file where the folder of segments belongs
    with pytest.raises(EverlearnError):
        write_many(chunks, "second", 20)
    assert server.process is not None
    assert server.process.wait(20) == -signal.SIGKILL
    segments.unlink()
    server.start()
    write_many(chunks, "third", 20)  # written out, which deletes the logs before
    server.kill()
    server.start()
    assert chunks.versions("default", "first") == {"first": 100}
    assert chunks.versions("default", "second-0") == {"second-0": 500}
    chunks.close()


def test_writes_are_refused_while_the_disk_is_full_and_searches_go_on(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk", 48) as folder:
            server = PrivateMilvus(folder)
            server.start()
            chunks = store(server)
            try:
                write(chunks, "before", 100)
                with Balloon(folder):
                    until(lambda: shutil.disk_usage(folder).free == 0)
                    for _ in range(3):
                        with pytest.raises(Unavailable):
                            write(chunks, "during", 100)
                    assert search(chunks, 1000) == 100
                    assert server.process is not None
                    assert server.process.poll() is None
                write(chunks, "after", 100)
                assert search(chunks, 1000) == 200
            finally:
                chunks.close()
                server.kill()
    except CannotMount as error:
        pytest.skip(str(error))


def test_a_client_goes_on_by_itself_after_the_server_was_killed_and_started(
    milvus_server: MakeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server = milvus_server()
    chunks = store(server)
    write(chunks, "a", 10)
    server.kill()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        search(chunks, 10)
    assert time.monotonic() - began < 10
    server.start()
    assert search(chunks, 10) == 10
    write(chunks, "b", 10)
    assert search(chunks, 20) == 20
    chunks.close()
    assert capfd.readouterr() == ("", "")


def test_sigterm_ends_the_server_in_seconds_and_an_idle_client_notices_no_restart(milvus_server: MakeServer) -> None:
    server = milvus_server()
    chunks = store(server)
    write(chunks, "a", 3000)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 8
    server.start()
    assert chunks.versions("default", "a") == {"a": 3000}
    chunks.close()


def test_the_server_has_no_children_and_listens_on_loopback_alone(milvus_server: MakeServer) -> None:
    server = milvus_server()
    assert server.process is not None
    assert Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text() == ""
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    lines = [line.split() for each in ("tcp", "tcp6") for line in Path(f"/proc/net/{each}").read_text().splitlines()]
    listens = "0A"
    assert {
        line[1].split(":")[0] for line in lines if line[1].endswith(f":{server.port:04X}") and line[3] == listens
    } <= (loopback)


def test_a_port_in_use_and_data_in_use_are_one_line_each(milvus_server: MakeServer, tmp_path: Path) -> None:
    server = milvus_server()
    taken = subprocess.run(milvus.command(tmp_path / "other", server.port), capture_output=True, text=True, timeout=60)
    assert (taken.returncode, taken.stdout) == (1, "")
    assert taken.stderr.strip().splitlines()[-1].startswith(f"port {server.port} cannot be listened on")
    locked = subprocess.run(
        milvus.command(server.folder / "data", free_port()), capture_output=True, text=True, timeout=60
    )
    assert locked.returncode == 1
    assert locked.stderr.count("\n") == 1
    assert "cannot be opened" in locked.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    failed = subprocess.run(milvus.command(tmp_path / "data", free_port()), capture_output=True, text=True, timeout=60)
    assert failed.stderr.count("\n") == 1


def test_nothing_answers_where_nothing_runs() -> None:
    assert not milvus.ready(free_port(), 0)  # the first call imports gRPC
    began = time.monotonic()
    assert not milvus.ready(free_port(), 0.5)
    assert time.monotonic() - began < 4
