"""The stream, without a broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agents.delivery.faust_app import StreamSettings
from agents.delivery.stream import Stream
from schemas.kafka import KafkaConnection


async def test_a_stream_that_never_started_stops_at_once(tmp_path: Path) -> None:
    unused: Any = None
    stream = Stream(
        "recorder", ["feedback.v1"], unused, batch_size=1, batch_bytes=1 << 20, scratch=tmp_path,
        settings=StreamSettings(kafka=KafkaConnection(bootstrap_servers="127.0.0.1:9")), lookup=unused,
    )  # fmt: skip
    began = time.monotonic()
    await stream.stop(10)
    assert time.monotonic() - began < 2, "a worker that still loads its model must stop at once"
