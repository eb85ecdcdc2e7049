"""Keeps the registry's aliases in step with the release state, which is the truth about what is served.

Only a tick does it: a registry that is slow or away then holds up no release, and what a crash left undone is mended.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.promoter.ports import Aliases, Releases
from schemas.errors import EverlearnError

SET_AGAIN_AFTER = timedelta(minutes=5)
"""Somebody else may have changed an alias: after so long all of them are set again."""


class ReleaseAliases:
    """``champion`` and ``challenger`` in the registry."""

    def __init__(self, releases: Releases, aliases: Aliases) -> None:
        self._releases, self._aliases = releases, aliases
        self._set: dict[str, int] = {}
        self._set_again_at: datetime | None = None

    def follow(self, now: datetime) -> None:
        """Sets the aliases of releases that changed since this promoter set them last. Raises the last failure."""
        if self._set_again_at is None or now >= self._set_again_at:
            self._set, self._set_again_at = {}, now + SET_AGAIN_AFTER
        failure: EverlearnError | None = None
        for release in self._releases.all():
            if self._set.get(release.task) == release.sequence:
                continue
            challenger = release.challenger if release.stage != "steady" else None
            try:
                self._aliases.set_aliases(release.task, champion=release.champion, challenger=challenger)
            except EverlearnError as error:
                failure = error  # one task's missing adapter is no reason to leave the others
            else:
                self._set[release.task] = release.sequence
        if failure is not None:
            raise failure
