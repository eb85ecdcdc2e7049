"""Runs commands of ``everlearn`` as a user would: each is shown first and runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agents.cli.output import JsonObject
from schemas.errors import EverlearnError

Show = Callable[[str], None]


class StepFailed(EverlearnError):
    """A step of the demo did not do its work."""


@dataclass
class Terminal:
    """Runs commands in one home folder, and shows their output with the time since the start."""

    home: Path
    show: Show
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """A stage of the story."""
        self.show(f"\n[{self.seconds:5.1f} s] {text}")

    def note(self, text: str) -> None:
        """A detail of a stage."""
        self.show(f"[{self.seconds:5.1f} s]   {text}")

    def run(self, *words: str) -> None:
        """Runs a command and shows what it prints. Raises StepFailed."""
        self._show_command(words)
        for line in self._execute(words).splitlines():
            self.show(f"    {line}")

    def json(self, *words: str, shown: bool = True) -> JsonObject:
        """Runs a command with --json and gives the last object that it printed. Raises StepFailed."""
        if shown:
            self._show_command(words)
        lines = self._execute((*words, "--json")).splitlines()
        if not lines:
            raise StepFailed(f"'everlearn {' '.join(words)}' printed nothing: see 'everlearn status'")
        found: JsonObject = json.loads(lines[-1])
        return found

    def _show_command(self, words: tuple[str, ...]) -> None:
        self.show(f"  $ everlearn {' '.join(_quoted(word) for word in words)}")

    def _execute(self, words: tuple[str, ...]) -> str:
        command = [sys.executable, "-m", "agents", "--home", str(self.home), *words]
        # The command shares stderr, for its progress bars and its error message.
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise StepFailed(f"the demo stops here, because '{words[0]}' failed as shown above")
        return done.stdout


def _quoted(word: str) -> str:
    if word.startswith("/"):
        return Path(word).name
    return f'"{word}"' if " " in word else word
