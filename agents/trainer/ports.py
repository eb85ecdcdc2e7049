"""What the trainer needs: to know which trainings are under way."""

from __future__ import annotations

from typing import Protocol

from schemas.delivery import Run


class Runs(Protocol):
    """The runs of an agent."""

    def unfinished(self, agent: str) -> list[Run]:
        """Runs that are queued or running. Inside a transaction nobody else adds one until it ends."""
        ...
