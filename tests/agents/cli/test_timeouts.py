"""A command with --timeout ends at that time whatever the stack does, and says so in one line."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.sql.migrate import migrate
from tests.agents.cli.conftest import TASKS, command_line

SECONDS = 2
LONGEST = 15
"""The deadline, its grace, and the time to close what is open."""
WAITING = [
    ("ask", "Why?", "--task", "routing"),
    ("search", "Why?"),
    ("publish", "documents", "LINES", "--wait"),
    ("train", "routing", "--wait"),
    ("drift", "check", "routing", "--wait"),
    ("index", "rebuild", "--wait"),
]


@pytest.fixture
def silent_kafka() -> Iterator[int]:
    """The port of a server that takes connections and never says anything, like a broker that hangs."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(128)
        yield server.getsockname()[1]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("words", WAITING, ids=lambda words: " ".join(words[:2]))
def test_a_command_ends_at_its_timeout_while_kafka_hangs(
    words: tuple[str, ...], silent_kafka: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "everlearn.toml").write_text(f'[kafka]\nbootstrap_servers = "127.0.0.1:{silent_kafka}"\n{TASKS}')
    (tmp_path / "lines.jsonl").write_text('{"id": "1", "text": "a"}\n')
    migrate(f"sqlite:///{tmp_path / 'everlearn.db'}")
    everlearn = command_line(tmp_path, capsys)
    began = time.monotonic()
    done = everlearn(
        *(str(tmp_path / "lines.jsonl") if word == "LINES" else word for word in words), "--timeout", str(SECONDS)
    )
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert time.monotonic() - began < LONGEST, done.err
