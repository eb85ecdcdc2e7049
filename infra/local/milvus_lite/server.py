"""The Milvus Lite server process: the library's own parts, put together for several writers and a polite end.

The library's ``milvus-lite server`` lets ten threads write to one collection without a lock (with four writers and
a SIGKILL, 6,700 of 8,000 rows were gone: their log was torn), searches row by row in Python (0.2 s for a vector, 0.5 s
for words, 5 s behind a filter on metadata at 100,000 rows; 0.01 s each here: ``milvus_search``), shares its port with a
second server, and knows no SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
from concurrent import futures
from functools import lru_cache, wraps
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import milvus_lite.analyzer.hash
import milvus_lite.analyzer.protocol
import milvus_lite.db
import milvus_lite.engine.collection
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from milvus_lite.exceptions import MilvusLiteError
from pymilvus.grpc_gen import milvus_pb2_grpc
from threadpoolctl import threadpool_limits

from infra.local.milvus_lite.collection import SearchedCollection
from infra.local.milvus_lite.program import HOST

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
UNFLUSHED_BYTES = 2 * 1024 * 1024
"""Rows held outside segments; beyond it they are written out, in 0.1 s, and are replayed at no start."""
WORDS_KEPT = 100_000
"""Whose numbers are remembered: the library works each out byte by byte, in Python."""
THREADS = 10
CLOSING_SECONDS = 4.0
WRITES = (
    "Insert",
    "Upsert",
    "Delete",
    "Flush",
    "CreateCollection",
    "DropCollection",
    "RenameCollection",
    "AlterCollection",
    "CreatePartition",
    "DropPartition",
    "CreateIndex",
    "DropIndex",
    "LoadCollection",
    "ReleaseCollection",
    "CreateAlias",
    "AlterAlias",
    "DropAlias",
)


class OneWriter(MilvusServicer):  # type: ignore[misc] # the library is untyped
    """Answers reads side by side and writes one after another."""

    def __init__(self, db: MilvusLite) -> None:
        super().__init__(db)
        writing = threading.Lock()
        self._opening = threading.Lock()
        for name in WRITES:
            setattr(self, name, _locked(writing, getattr(self, name)))

    def _get_collection(self, request: Any, context: Any) -> Any:
        # Two threads that open one collection at once would each replay its log and then both write to it.
        with self._opening:
            return super()._get_collection(request, context)


def _locked(lock: threading.Lock, method: Any) -> Any:
    @wraps(method)
    def run(request: Any, context: Any) -> Any:
        with lock:
            return method(request, context)

    return run


def _install() -> None:
    milvus_lite.db.Collection = SearchedCollection
    milvus_lite.engine.collection.MEMTABLE_MEMORY_LIMIT = UNFLUSHED_BYTES
    milvus_lite.analyzer.protocol.term_to_id = lru_cache(maxsize=WORDS_KEPT)(milvus_lite.analyzer.hash.term_to_id)
    # Threads of one search wait for each other in a loop: beside busy agents a search took eight times as long.
    threadpool_limits(limits=1)


def serve(data_folder: Path, port: int) -> str | None:
    """Serves until SIGTERM or SIGINT; returns what prevented it, if something did."""
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    _install()
    try:
        data_folder.mkdir(parents=True, exist_ok=True)
        db = MilvusLite(str(data_folder))
    except (OSError, MilvusLiteError) as error:
        return f"the Milvus data in {data_folder} cannot be opened: {error}"
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=THREADS),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            # pymilvus pings each ten seconds, idle or not; by default a server hangs up on such a client.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(OneWriter(db), server)
    try:
        server.add_insecure_port(f"{HOST}:{port}")
        server.start()
    except RuntimeError:
        return f"port {port} cannot be listened on: give another, or end what uses it"
    ended.wait()
    server.stop(grace=2).wait()
    # Closing waits for compaction, which may take minutes; what is not closed is replayed from the log.
    closing = threading.Thread(target=db.close, daemon=True)
    closing.start()
    closing.join(CLOSING_SECONDS)
    return None


if __name__ == "__main__":
    problem = serve(Path(sys.argv[1]), int(sys.argv[2]))
    if problem is not None:
        sys.exit(problem)
