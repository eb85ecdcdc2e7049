"""An engine that says what a test wants, rows to ask it, and the twins around a validator."""

from datetime import UTC, datetime

from infra.memory.engine import MemoryEngine
from schemas.datasets import DatasetRow
from schemas.generation import Generation
from schemas.tasks import Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LABELS = ("orders", "courses", "repairs")
ROUTING = Task(name="routing", instruction="Name the team.", metric="exact_match", labels=LABELS, max_tokens=24)
SUPPORT = Task(name="support", instruction="Help.", metric="token_f1", retrieval=True, max_tokens=24)


def row(number, output="orders", **changes):
    return DatasetRow(
        **{
            "row_id": f"r{number}",
            "input": f"message {number}",
            "output": output,
            "origin": "correction",
            "origin_id": f"a{number}",
            "at": NOW,
            "split": "holdout",
            **changes,
        }
    )


def rows(count=30, **changes):
    """Held-out rows whose labels go round."""
    return [row(number, LABELS[number % 3], **changes) for number in range(count)]


class ScriptedEngine(MemoryEngine):
    """Says what ``script`` makes of (adapter id, last message); cut at the request's limit, a word a token."""

    def __init__(self, script, losses=None):
        super().__init__(base_model="smollm2-135m-instruct")
        self.script, self.losses = script, losses or {}

    def generate(self, requests):
        super().generate(requests)
        return [self._said(request) for request in requests]

    def _said(self, request):
        words = self.script(request.adapter_id, request.messages[-1].content).split()
        kept = words[: request.max_tokens]
        return Generation(
            text=" ".join(kept),
            prompt_tokens=9,
            completion_tokens=len(kept),
            finish_reason="stop" if kept == words else "length",
        )

    def loss(self, texts, adapter_id=None):
        assert texts
        return self.losses.get(adapter_id, 3.0)


def knows(*adapters):
    """A script by which these adapters give the right label to ``message N`` and all others say something else."""

    def script(adapter_id, text):
        return LABELS[int(text.split()[-1]) % 3] if adapter_id in adapters else "I am not sure about that"

    return script
