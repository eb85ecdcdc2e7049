"""What the demo does, step by step: commands of ``everlearn`` in a process of their own, shown before they run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.errors import EverlearnError

DOCUMENTS = Path(__file__).parent / "data" / "documents.jsonl"
TENANT = "demo"
QUESTIONS = (
    "How long does a parcel to Iceland take?",
    "Can I put my drysuit into the tumble dryer?",
    "How do I store a kayak so that its keel stays straight?",
)
CORRECTION = "Ten working days: parcels to Iceland go by ferry."
PATIENCE_SECONDS = 30.0

Tell = Callable[[str], None]


class StepFailed(EverlearnError):
    """A command of the demo did not do its work."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the demo saw, as its last line with ``--json``."""

    documents: int
    asked: int
    failed: int
    answer_id: str
    outcome: str
    revision: int
    ready_s: float
    seconds: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Story:
    """One telling of the demo in one home folder."""

    def __init__(self, home: Path, tell: Tell) -> None:
        self._home = home
        self._tell = tell
        self._started = time.monotonic()

    def run(self, *, up: bool) -> Report:
        """Tells the story; ``up``: the stack does not run yet and is brought up first."""
        self._say("The stack comes up: Kafka, Milvus, SQL, and three agents in processes of their own.")
        began = time.monotonic()
        if up:
            self._type("up", "--detach")
        ready = time.monotonic() - began
        self._say("A kayak workshop publishes its help pages; the indexer makes them searchable.")
        published = self._json("publish", "documents", str(DOCUMENTS), "--tenant", TENANT, "--wait")
        self._say("Anyone can search them …")
        self._type("search", "parcel to an island", "-k", "2", "--tenant", TENANT)
        self._say("… and ask. The answerer looks up the pages and lets the model answer from them.")
        answers = [self._ask(question) for question in QUESTIONS]
        answer = answers[0]
        self._say("Ada knows better than a small model, and says so.")
        self._type("feedback", answer["answer_id"], "--down", "--correction", CORRECTION, "--user", "ada")
        self._say("The recorder has joined question, answer and correction into one row of the feature table.")
        row = self._corrected(answer["answer_id"])
        self._type("interactions", "show", answer["answer_id"])
        return Report(
            documents=published["documents"],
            asked=len(QUESTIONS),
            failed=sum("reason" in each for each in answers),
            answer_id=answer["answer_id"],
            outcome=row["outcome"],
            revision=row["revision"],
            ready_s=round(ready, 1),
            seconds=round(time.monotonic() - self._started, 1),
        )

    def _ask(self, question: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._json("ask", question, "--task", "support", "--user", "ada", "--tenant", TENANT)
        self._tell(f"    {' '.join(str(answer.get('text') or answer.get('reason')).split())}")
        for source in answer.get("sources", ())[:2]:
            self._tell(f"      from “{source['title']}” ({source['score']:.2f})")
        return answer

    def _corrected(self, answer_id: str) -> dict[str, Any]:
        """The row once the recorder has merged the correction into it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            row: dict[str, Any] = self._json("interactions", "show", answer_id, shown=False)
            if row.get("outcome") == "corrected":
                return row
            time.sleep(0.2)
        raise StepFailed(f"the correction of {answer_id} is not in the feature table: see 'everlearn status'")

    def _say(self, text: str) -> None:
        self._tell(f"\n[{time.monotonic() - self._started:5.1f} s] {text}")

    def _type(self, *words: str) -> None:
        """Runs a command and shows what it prints."""
        self._show(words)
        for line in self._execute(words).splitlines():
            self._tell(f"    {line}")

    def _json(self, *words: str, shown: bool = True) -> Any:
        """Runs a command with --json and gives the last object that it printed."""
        if shown:
            self._show(words)
        lines = self._execute((*words, "--json")).splitlines()
        if not lines:
            raise StepFailed(f"'everlearn {' '.join(words)}' printed nothing: see 'everlearn status'")
        return json.loads(lines[-1])

    def _show(self, words: tuple[str, ...]) -> None:
        self._tell(f"  $ everlearn {' '.join(_quoted(word) for word in words)}")

    def _execute(self, words: tuple[str, ...]) -> str:
        command = [sys.executable, "-m", "agents", "--home", str(self._home), *words]
        # stderr is the user's own: progress bars, and the one line of a command that fails
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise StepFailed(f"the demo stops here, because '{words[0]}' failed as said above")
        return done.stdout


def _quoted(word: str) -> str:
    if word == str(DOCUMENTS):
        return DOCUMENTS.name
    return f'"{word}"' if " " in word else word
