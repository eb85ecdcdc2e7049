"""A home folder that points at the tests' Kafka, and the command line as a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.cli.main import execute
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings, load
from infra.sql.migrate import migrate
from schemas.kafka import KafkaConnection
from tests.agents.cli.peers import Peer, answers
from tests.fixtures.registry import RegistryIn

TASKS = """
[tasks.routing]
instruction = "Route."
metric = "exact_match"

[tasks.support]
instruction = "Answer."
retrieval = true
"""


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its JSON lines; nothing else may be on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


Everlearn = Callable[..., Result]


def command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> Everlearn:
    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        words: Sequence[str] = ["--home", str(home), *map(str, arguments)]
        code = execute(words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def home(tmp_path: Path, kafka_config: KafkaConnection) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "everlearn.toml").write_text(f'[kafka]\nbootstrap_servers = "{kafka_config.bootstrap_servers}"\n{TASKS}')
    return folder


@pytest.fixture
def everlearn(home: Path, capsys: pytest.CaptureFixture[str]) -> Everlearn:
    return command_line(home, capsys)


@pytest.fixture
def settings(home: Path) -> Settings:
    return load(home, environ={})


@pytest.fixture
def registry(home: Path, registry_in: RegistryIn) -> MlflowRegistry:
    return registry_in(home)


@pytest.fixture
def database_url(home: Path) -> str:
    """The home's database, with its tables."""
    url = load(home, environ={}).sql_url()
    migrate(url)
    return url


@pytest.fixture
def without_kafka(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Everlearn:
    """The command line against an address where nobody listens."""
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "everlearn.toml").write_text(f'[kafka]\nbootstrap_servers = "127.0.0.1:9"\n{TASKS}')
    return command_line(folder, capsys)


@pytest.fixture
def answerer(kafka_config: KafkaConnection) -> Iterator[Peer]:
    """Somebody who answers questions."""
    with Peer(kafka_config, "questions.v1", answers) as peer:
        yield peer


def write_lines(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A file of JSON lines; a text is written as it is."""
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path
