"""The stream, as far as it needs no broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agents.delivery.faust_app import StreamSettings
from agents.delivery.stream import Stream
from schemas.kafka import KafkaConnection


async def test_a_stream_that_never_started_stops_at_once(tmp_path: Path) -> None:
    nobody: Any = None
    stream = Stream(
        "recorder", ["feedback.v1"], nobody, batch_size=1, batch_bytes=1 << 20, scratch=tmp_path,
        settings=StreamSettings(kafka=KafkaConnection(bootstrap_servers="127.0.0.1:9")), lookup=nobody,
    )  # fmt: skip
    began = time.monotonic()
    await stream.stop(10)
    assert time.monotonic() - began < 2, "a worker that is stopped while it loads its model"
