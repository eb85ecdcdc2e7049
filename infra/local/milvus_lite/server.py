"""Runs Milvus Lite's gRPC service for several clients: ``python -m infra.local.milvus_lite.server FOLDER PORT``.

The package's docstring says how it differs from ``milvus-lite server``.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from milvus_lite.engine.collection import Collection
from milvus_lite.exceptions import MilvusLiteError
from pymilvus.grpc_gen import milvus_pb2_grpc
from threadpoolctl import threadpool_limits

from infra.disks import disk_is_full
from infra.local.milvus_lite.collection import SearchedCollection
from infra.local.milvus_lite.library import install
from infra.local.milvus_lite.program import HOST

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
MEMTABLE_BYTES = 2 * 1024 * 1024
"""Beyond this size the rows in memory are written to a segment, which takes 0.1 s and keeps the next start short."""
CACHED_WORDS = 100_000
THREADS = 10
CLOSING_SECONDS = 4.0
RESERVE_BYTES = 16 * 1024 * 1024
"""A request is refused when less than this would be left on the disk, because a failed write ends the server. Writing a
full memtable out takes a few megabytes."""
NEED_ROOM = ("Insert", "Upsert", "Delete", "Flush", "CreateCollection", "CreatePartition", "CreateIndex", "CreateAlias")
"""The requests that add to the disk."""
WRITES = (
    *NEED_ROOM,
    "DropCollection",
    "RenameCollection",
    "AlterCollection",
    "DropPartition",
    "DropIndex",
    "LoadCollection",
    "ReleaseCollection",
    "AlterAlias",
    "DropAlias",
)
"""The requests that write."""


class Database(MilvusLite):  # type: ignore[misc] # the library is untyped
    """Opens one collection at a time: two threads that open the same one would both replay its log and write to it."""

    def __init__(self, data_dir: str) -> None:
        self._opening = threading.RLock()
        super().__init__(data_dir)

    def get_collection(self, *args: object, **options: object) -> Collection:
        """The open collection of a name."""
        with self._opening:
            return super().get_collection(*args, **options)


class SingleWriterServicer(MilvusServicer):  # type: ignore[misc] # the library is untyped
    """Answers reads side by side and writes one after another. Refuses writes while the disk is full."""

    def __init__(self, db: MilvusLite, folder: Path) -> None:
        super().__init__(db)
        writing = threading.Lock()
        for name in WRITES:
            method = getattr(self, name)
            setattr(self, name, _locked(writing, _with_room(folder, method) if name in NEED_ROOM else method))


Method = Callable[[Any, grpc.ServicerContext], object]


def _locked(lock: threading.Lock, method: Method) -> Method:
    @wraps(method)
    def run(request: Any, context: grpc.ServicerContext) -> object:
        with lock:
            return method(request, context)

    return run


def _with_room(folder: Path, method: Method) -> Method:
    @wraps(method)
    def run(request: Any, context: grpc.ServicerContext) -> object:
        if shutil.disk_usage(folder).free < RESERVE_BYTES + request.ByteSize():
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, disk_is_full(folder))
        return method(request, context)

    return run


def serve(data_folder: Path, port: int) -> str | None:
    """Serves until SIGTERM or SIGINT; returns the reason if it cannot start."""
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    install(SearchedCollection, memtable_bytes=MEMTABLE_BYTES, cached_words=CACHED_WORDS)
    # The threads of one matrix product wait for each other in a busy loop: beside busy agents a search took eight times
    # as long.
    threadpool_limits(limits=1)
    try:
        data_folder.mkdir(parents=True, exist_ok=True)
        db = Database(str(data_folder))
    except (OSError, MilvusLiteError) as error:
        return f"the Milvus data in {data_folder} cannot be opened: {error}"
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=THREADS),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            # pymilvus pings every ten seconds, also when idle; by default a server closes such a connection.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(SingleWriterServicer(db, data_folder), server)
    try:
        server.add_insecure_port(f"{HOST}:{port}")
        server.start()
    except RuntimeError:
        return f"port {port} cannot be listened on: choose another one, or end the process that uses it"
    ended.wait()
    server.stop(grace=2).wait()
    # Closing waits for compaction, which may take minutes. What is not closed in time is replayed from the log.
    closing = threading.Thread(target=db.close, daemon=True)
    closing.start()
    closing.join(CLOSING_SECONDS)
    return None


if __name__ == "__main__":
    problem = serve(Path(sys.argv[1]), int(sys.argv[2]))
    if problem is not None:
        sys.exit(problem)
