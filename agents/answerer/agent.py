"""The answerer's handlers: turns questions into answers, and follows releases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import structlog

from agents.answerer.generation import generate
from agents.answerer.ports import Engine, Retriever
from agents.answerer.releases import ServedReleases, serving
from agents.answerer.replies import failed, refusal, without_model
from agents.answerer.retrieval import Job, find
from agents.answerer.routing import choose
from agents.delivery.outcome import Outcome, Output
from agents.delivery.worker import Batch, Handlers
from schemas.envelope import Received
from schemas.event import Event
from schemas.fleet import Serving
from schemas.promotions import ReleaseEvent
from schemas.questions import QuestionAsked
from schemas.tasks import Task, TaskFingerprint

log = structlog.get_logger()

RETRY_ADOPTION_SECONDS = 5.0
"""How long the answerer waits before it looks again for a missing adapter."""


class Answerer:
    """Answers batches of questions. Raises Unavailable and EngineCrashed, so that delivery tries again."""

    def __init__(
        self,
        *,
        tasks: Mapping[str, Task],
        retriever: Retriever,
        engine: Engine,
        releases: ServedReleases,
        context_tokens: int,
        now: Callable[[], datetime],
        tenants: Collection[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
        fingerprints: Mapping[str, TaskFingerprint] | None = None,
    ) -> None:
        """``tenants``: the tenants whose questions are answered; empty means all. ``fingerprints``: of the tasks."""
        self._tasks, self._retriever, self._engine, self._tenants = tasks, retriever, engine, tenants
        self._context_tokens, self._now, self.releases = context_tokens, now, releases
        self._monotonic, self._fingerprints = monotonic, fingerprints or {}
        self._retry_at: float | None = None
        self._adopting = asyncio.Lock()
        # A batch holds it while it generates, so that no adapter of the batch is dropped.
        self._engine_turn = asyncio.Lock()

    def handlers(self) -> Handlers:
        return {QuestionAsked: Batch(self.answer)}

    def given_up(self, received: Received[QuestionAsked], reason: str) -> Sequence[Output]:
        """Tells the asker of a question that went to the dead letters."""
        choice = choose(received.event, self.releases.served)
        return (Output(event=failed(received, reason, self._now(), choice)),)

    async def answer(self, batch: Sequence[Received[QuestionAsked]]) -> Sequence[Outcome]:
        if not self._adopting.locked():  # otherwise a release is being loaded, and the loaded adapters go on serving
            await self.catch_up()
        asked = dict(enumerate(batch))
        replies: dict[int, Event] = {}
        for index, each in asked.items():
            reason = refusal(each.event, self._tasks, self._tenants, self._now())
            if reason is not None:
                replies[index] = failed(each, reason, self._now(), choose(each.event, self.releases.served))
        jobs = await self._retrieve({index: asked[index] for index in asked if index not in replies})
        replies |= without_model(jobs, self.releases.served, self._now())
        jobs = {index: job for index, job in jobs.items() if index not in replies}
        if jobs:
            replies |= await self._generate(jobs)
        return [Outcome(outputs=(Output(event=replies[index]),)) for index in asked]

    async def _retrieve(self, asked: Mapping[int, Received[QuestionAsked]]) -> dict[int, Job]:
        tasks = {index: self._tasks[each.event.task] for index, each in asked.items()}
        searches = [(each.event, tasks[index]) for index, each in asked.items()]
        found = await asyncio.to_thread(find, self._retriever, searches)
        return {
            index: Job(asked=each, task=tasks[index], hits=hits)
            for (index, each), hits in zip(asked.items(), found, strict=True)
        }

    async def _generate(self, jobs: Mapping[int, Job]) -> dict[int, Event]:
        async with self._engine_turn:
            # The whole batch uses one state, from its first choice of an arm to its last token. A swap during the batch
            # takes effect with the next one.
            states, tokens = self.releases.served, self._context_tokens
            return await asyncio.to_thread(generate, jobs, states, self._engine, context_tokens=tokens, now=self._now)

    async def follow(self, received: Received[Event]) -> None:
        """Follows a release of a configured task: loads its adapters, then serves it."""
        event = received.event
        if isinstance(event, ReleaseEvent) and event.task in self._tasks and self.releases.apply(event):
            self._retry_at = None
            await self.catch_up()

    async def catch_up(self) -> None:
        """Loads and serves the releases that are not served yet. Does nothing shortly after a failed attempt.

        Never raises: questions and other releases do not depend on it, and it is called again.
        """
        async with self._adopting:
            if not self.releases.behind or (self._retry_at is not None and self._monotonic() < self._retry_at):
                return
            self._retry_at = self._monotonic() + RETRY_ADOPTION_SECONDS
            before = self.releases.problem
            try:
                await self._adopt()
            except Exception as error:  # noqa: BLE001  # such as a library's, while it frees an adapter
                log.warning("releases not followed", reason=f"{type(error).__name__}: {error}")
            if self.releases.problem and self.releases.problem != before:  # it is looked for again and again
                log.warning("release not served", problem=self.releases.problem)

    async def _adopt(self) -> None:
        await asyncio.to_thread(self.releases.adopt)
        if self.releases.has_unused:
            async with self._engine_turn:
                await asyncio.to_thread(self.releases.drop_unused)

    def serves(self) -> Sequence[Serving]:
        return serving(self._tasks, self.releases.served, self._fingerprints)
