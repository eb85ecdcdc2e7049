"""Milvus Lite as a server of its own on loopback: how it is started, and when it answers."""

from __future__ import annotations

import sys
import time
from pathlib import Path

HOST = "127.0.0.1"


def command(data_folder: Path, port: int) -> list[str]:
    """The command line of the server: one process without children, safe to SIGKILL and to start again elsewhere.

    SIGTERM and SIGINT end it within seconds, after it wrote what it held in memory.
    """
    return [sys.executable, "-m", "infra.local.milvus_lite.server", str(data_folder), str(port)]


def uri(port: int) -> str:
    """What clients connect to."""
    return f"http://{HOST}:{port}"


def ready(port: int, timeout_seconds: float) -> bool:
    """Whether a Milvus server answers on the port before the time is over; a zero timeout asks once."""
    import grpc  # Imported alone, because pymilvus imports pandas, which takes a second and a half.

    deadline = time.monotonic() + timeout_seconds
    while True:
        with grpc.insecure_channel(f"{HOST}:{port}") as channel:
            version = channel.unary_unary("/milvus.proto.milvus.MilvusService/GetVersion")
            try:
                return bool(version(b"", timeout=2.0))
            except grpc.RpcError:
                if time.monotonic() >= deadline:
                    return False
        time.sleep(0.1)
