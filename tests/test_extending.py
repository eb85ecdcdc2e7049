"""Adds an event, an agent, a metric, an engine and a setting to a copy, as ``docs/architecture.md`` says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[1]


class Tree:
    """A copy of the product's code that a test changes and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in ("agents", "schemas", "infra"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(textwrap.dedent(text).lstrip())

    def append(self, path: str, text: str) -> None:
        file = self.folder / path
        file.write_text(file.read_text() + textwrap.dedent(text))

    def replace(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} no longer holds {old!r}: change this test and docs/architecture.md"
        file.write_text(text.replace(old, new, 1))

    def python(self, *arguments: str, **environment: str) -> str:
        """What Python prints in the copy; fails when it does."""
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def run(self, script: str, **environment: str) -> str:
        return self.python("-c", textwrap.dedent(script), **environment)

    def check_imports(self) -> None:
        self.run("from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_an_event_is_a_class_and_a_line_in_the_topic_table(tree: Tree) -> None:
    tree.append(
        "schemas/documents.py",
        '''

        class DocumentRead(Event):
            """A user opened a document."""

            type: ClassVar[str] = "everlearn.document.read.v1"
            document_id: Identifier
            tenant: Name = DEFAULT_TENANT

            @property
            def key(self) -> str:
                return f"{self.tenant}/{self.document_id}"
        ''',
    )
    tree.replace(
        "schemas/topics.py", "from schemas.documents import (\n", "from schemas.documents import (\n    DocumentRead,\n"
    )
    tree.replace("schemas/topics.py", "events=(FeedbackGiven,)", "events=(FeedbackGiven, DocumentRead)")
    tree.python("-m", "schemas.generate")
    tree.python("-m", "schemas.generate", "--check")
    schema = json.loads((tree.folder / "schemas/json/everlearn.document.read.v1.json").read_text())
    assert "document_id" in schema["properties"]
    tree.run(
        """
        from datetime import UTC, datetime
        from schemas.documents import DocumentRead
        from schemas.envelope import decode, encode, new_context

        now = datetime.now(UTC)
        record = encode(DocumentRead(document_id="d1"), new_context("/test", now=now))
        event, _ = decode(record.topic, record.value, record.headers, now=now)
        assert (record.topic, event.document_id) == ("feedback.v1", "d1")
        """
    )


def test_an_agent_is_a_room_a_file_of_wiring_and_its_name_in_three_tables(tree: Tree) -> None:
    tree.write("agents/greeter/__init__.py", '"""The greeter: answers examples with a greeting. Never decides."""\n')
    tree.write(
        "agents/greeter/agent.py",
        '''
        """Greets whoever submits an example."""

        from __future__ import annotations

        from agents.delivery.outcome import Outcome, Output
        from agents.delivery.worker import Handlers
        from schemas.envelope import Received
        from schemas.interactions import ExampleSubmitted, FeedbackGiven


        class Greeter:
            def handlers(self) -> Handlers:
                return {ExampleSubmitted: self.greet}

            async def greet(self, received: Received[ExampleSubmitted]) -> Outcome:
                event = FeedbackGiven(answer_id=received.context.id, reason=f"hello, {received.event.task}")
                return Outcome(outputs=(Output(event=event),))
        ''',
    )
    tree.write(
        "agents/wiring/greeter.py",
        '''
        """Builds the greeter's worker."""

        from __future__ import annotations

        from agents.delivery.worker import Worker
        from agents.greeter.agent import Greeter
        from infra.settings import Settings
        from schemas.topics import read_by


        def build(settings: Settings) -> Worker:
            return Worker(agent="greeter", topics=read_by("greeter"), handlers=Greeter().handlers())
        ''',
    )
    tree.replace(
        "schemas/topics.py",
        'name="examples.v1", key="task", writer=CLIENTS, readers=("recorder",)',
        'name="examples.v1", key="task", writer=CLIENTS, readers=("recorder", "greeter")',
    )
    tree.replace("agents/wiring/run.py", 'AGENTS = ("indexer",', 'AGENTS = ("greeter", "indexer",')
    tree.replace("pyproject.toml", '"indexer | answerer', '"greeter | indexer | answerer')
    tree.check_imports()
    tree.run(
        """
        import asyncio
        from datetime import UTC, datetime
        from pathlib import Path
        from agents.wiring.greeter import build
        from infra.settings import Settings
        from schemas.envelope import Position, Received, new_context
        from schemas.interactions import ExampleSubmitted

        worker = build(Settings(home=Path("home").absolute()))
        assert worker.topics == ("examples.v1",)
        context = new_context("/test", now=datetime.now(UTC), event_id="e1")
        received = Received(
            event=ExampleSubmitted(task="routing", input="a", output="b"),
            context=context,
            position=Position("examples.v1", 0, 0),
        )
        (outcome,) = asyncio.run(worker.dispatch()([received]))
        assert outcome.outputs[0].event.reason == "hello, routing"
        """
    )
    assert "greeter" in tree.run("from schemas.topics import all_topics; print([each.name for each in all_topics()])")


def test_a_metric_is_a_function_and_its_name_in_the_table(tree: Tree) -> None:
    metric = '''
        def same_length(answer: str, right: str) -> float:
            """Returns 1 when both have the same number of words."""
            return float(len(answer.split()) == len(right.split()))


        '''
    path, table = "agents/validator/metrics.py", "METRICS: Mapping["
    tree.replace(path, table, textwrap.dedent(metric).lstrip() + table)
    tree.replace(path, '"token_f1": token_f1}', '"token_f1": token_f1, "same_length": same_length}')
    tree.write(
        "home/everlearn.toml",
        """
        [tasks.chat]
        instruction = "Talk."
        metric = "same_length"
        """,
    )
    said = tree.python("-m", "agents", "--home", "home", "tasks", "check", "--json")
    assert json.loads(said)["faults"] == []


def test_an_engine_is_a_class_that_fits_the_ports_and_its_name_in_the_table(tree: Tree) -> None:
    tree.write(
        "infra/engines/echo.py",
        '''
        """Repeats the question: an engine that needs no model."""

        from __future__ import annotations

        from collections.abc import Sequence

        from infra.memory.engine import MemoryEngine
        from schemas.generation import Generation, GenerationRequest


        class EchoEngine(MemoryEngine):
            """Takes everything but the answers from the in-memory twin, which fits the ports."""

            def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
                texts = [each.messages[-1].content for each in requests]
                return [
                    Generation(text=text, prompt_tokens=1, completion_tokens=1, finish_reason="stop") for text in texts
                ]
        ''',
    )
    echo = """
        def _echo(settings: Settings) -> ServingEngine:
            from infra.engines.echo import EchoEngine

            return EchoEngine()


        """
    path, table = "agents/wiring/engines.py", "ENGINES: Mapping["
    tree.replace(path, table, textwrap.dedent(echo).lstrip() + table)
    tree.replace(path, '"transformers": _transformers}', '"transformers": _transformers, "echo": _echo}')
    tree.check_imports()
    tree.run(
        """
        from pathlib import Path
        from agents.wiring.engines import load_engine
        from infra.settings import Settings
        from schemas.generation import ChatMessage, GenerationRequest
        from schemas.policies import ModelSettings

        engine = load_engine(Settings(home=Path("home").absolute(), model=ModelSettings(engine="echo")))
        (answer,) = engine.generate([GenerationRequest(messages=(ChatMessage("user", "hello"),))])
        assert answer.text == "hello"
        """
    )


def test_a_setting_is_a_documented_field_of_its_table(tree: Tree) -> None:
    tree.replace(
        "schemas/policies.py",
        "class AnswererSettings(Table):\n",
        'class AnswererSettings(Table):\n    greeting: str = "Hello."\n    """What every answer begins with."""\n',
    )
    tree.python("-m", "agents", "--home", "home", "init")
    template = (tree.folder / "home/everlearn.toml").read_text()
    assert '# What every answer begins with.\n#greeting = "Hello."\n' in template
    said = tree.run(
        "from pathlib import Path; from infra.settings import load; print(load(Path('home')).answerer.greeting)",
        EVERLEARN_ANSWERER_GREETING="Good day.",
    )
    assert said == "Good day.\n"
