"""Publishes single documents, and searches until each change is visible."""

from __future__ import annotations

import random
import time

from benchmarks.document_stack import Stack, dense, ids, now
from schemas.documents import DocumentSubmitted, DocumentWithdrawn

WORDS = (
    "anchor", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "inlet", "jetty", "kelp", "lagoon",
)  # fmt: skip

PAUSE_SECONDS = 0.01
"""The pause between searches. Without it, the searches would keep a processor busy that the workers need."""


def sentence(dice: random.Random, words: int = 12) -> str:
    return " ".join(f"{dice.choice(WORDS)}{dice.randrange(1000)}" for _ in range(words))


class Visible:
    """Publishes single documents, and searches until each change is visible."""

    def __init__(self, running: Stack) -> None:
        self._running = running
        self._retriever = running.retriever(embedding=False)
        self.stale = self.missing = 0

    def found(self, text: str) -> set[str]:
        """Returns the ids and the texts of the documents that a search for a text finds."""
        (hits,) = self._retriever.search([dense(text, 10)])
        return {hit.chunk.text for hit in hits} | ids(hits)

    def know(self, *texts: str) -> None:
        self._running.given.known |= dict(zip(texts, self._running.embedder.embed(texts), strict=True))

    def add(self, name: str, text: str) -> float:
        return self._seconds(name, text)

    def update(self, name: str, old: str, text: str) -> float:
        seconds = self._seconds(name, text)
        self.stale += old in self.found(old)
        return seconds

    def update_watched(self, name: str, old: str, text: str) -> None:
        """Updates a document. Counts the moments at which neither its old nor its new version is found."""
        self._publish(name, text)
        began = time.monotonic()
        while True:
            before, after = name in self.found(old), text in self.found(text)
            self.missing += not before and not after
            if after:
                return
            self._check_time(began)

    def withdraw(self, name: str, old: str) -> float:
        began = time.monotonic()
        self._running.publish([DocumentWithdrawn(document_id=name, submitted_at=now())])
        while name in self.found(old):
            self._check_time(began)
        seconds = time.monotonic() - began
        self.stale += name in self.found(old)
        return seconds

    def _seconds(self, name: str, text: str) -> float:
        began = time.monotonic()
        self._publish(name, text)
        while text not in self.found(text):
            self._check_time(began)
        return time.monotonic() - began

    def _publish(self, name: str, text: str) -> None:
        self._running.publish([DocumentSubmitted(document_id=name, text=text, submitted_at=now())])

    def _check_time(self, began: float) -> None:
        if time.monotonic() - began > 60:
            raise TimeoutError("a change was not visible within a minute")
        time.sleep(PAUSE_SECONDS)
