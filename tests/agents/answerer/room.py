"""An answerer on memory twins, with a clock of its own, and questions to ask it."""

from datetime import UTC, datetime, timedelta
from itertools import count

from agents.answerer.agent import Answerer
from agents.answerer.releases import LoadedAdapters, ServedReleases
from infra.memory.adapters import MemoryAdapters
from infra.memory.engine import MemoryEngine
from infra.memory.retriever import MemoryRetriever
from schemas.envelope import Position, Received, new_context
from schemas.generation import ChatMessage, GenerationRequest
from schemas.promotions import AdapterPromoted, CanaryStarted
from schemas.questions import QuestionAsked
from schemas.registry import Probe
from schemas.retrieval import Chunk
from schemas.tasks import Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TASKS = {
    "support": Task(name="support", instruction="Help.", retrieval=True, top_k=2, max_tokens=6, floor=0.0),
    "routing": Task(name="routing", instruction="Name the team.", max_tokens=3),
}
offsets = count()


def chunk(name, text, tenant="default"):
    return Chunk(chunk_id=name, tenant=tenant, document_id=f"d-{name}", version="1", ordinal=0, text=text, title="T")


CHUNKS = [
    chunk("parcel", "your parcel is late because of snow"),
    chunk("refund", "a refund takes five days"),
    chunk("bill", "the bill is sent by mail"),
    chunk("theirs", "your parcel is late at acme", tenant="acme"),
]


def received(event, asked_at=NOW - timedelta(milliseconds=250)):
    return Received(
        event=event, context=new_context("/test", now=asked_at), position=Position("questions.v1", 0, next(offsets))
    )


def question(text="why is my parcel late", task="support", **fields):
    return QuestionAsked(**{"question_id": f"q{next(offsets)}", "task": task, "text": text, **fields})


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Room:
    """An answerer on memory twins."""

    def __init__(self, folder, engine=None, tasks=TASKS, *, unprobed=False, fingerprints=None):
        self.folder = folder
        self.engine, self.retriever = engine or MemoryEngine(), MemoryRetriever(CHUNKS)
        self.adapters, self.clock = MemoryAdapters(), Clock()
        releases = ServedReleases(LoadedAdapters(self.engine, self.adapters, unprobed=unprobed))
        self.answerer = Answerer(
            tasks=tasks, retriever=self.retriever, engine=self.engine, releases=releases, context_tokens=60,
            now=self.clock, monotonic=lambda: self.clock().timestamp(), fingerprints=fingerprints,
        )  # fmt: skip

    def train(self, *names):
        for name in names:
            self.adapters.folders[name] = self.folder / name
            self.adapters.folders[name].mkdir()
            (self.adapters.folders[name] / "adapter_config.json").write_text("{}")
            self.adapters.probed[name] = self.probes(name)

    def probes(self, name):
        """Returns the probes that a validator would have stored beside an adapter."""
        engine = MemoryEngine()
        engine.set_adapters({name: self.adapters.folders[name]})
        prompts = [(ChatMessage("user", text),) for text in ("one", "two", "three", "four")]
        said = engine.generate([GenerationRequest(messages=each, adapter_id=name, max_tokens=6) for each in prompts])
        return tuple(
            Probe(messages=prompt, output=each.text, max_tokens=6, engine=engine.signature)
            for prompt, each in zip(prompts, said, strict=True)
        )

    async def ask(self, *questions):
        outcomes = await self.answerer.answer([received(each) for each in questions])
        return [outcome.outputs[0].event for outcome in outcomes]

    async def release(self, sequence, champion=None, **state):
        kind = CanaryStarted if "challenger" in state else AdapterPromoted
        await self.answerer.follow(
            received(kind(**{"task": "support", "sequence": sequence, "champion": champion, **state}))
        )
