"""Types commands of ``everlearn`` as a user would: shown before they run, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import EverlearnError

Tell = Callable[[str], None]


class StepFailed(EverlearnError):
    """A step of the demo did not do its work."""


@dataclass
class Terminal:
    """Types into one home folder and tells what it sees, with the time since the beginning."""

    home: Path
    tell: Tell
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """A stage of the story."""
        self.tell(f"\n[{self.seconds:5.1f} s] {text}")

    def note(self, text: str) -> None:
        """Something that happened in a stage."""
        self.tell(f"[{self.seconds:5.1f} s]   {text}")

    def type(self, *words: str) -> None:
        """Runs a command and shows what it prints. Raises StepFailed."""
        self._show(words)
        for line in self._execute(words).splitlines():
            self.tell(f"    {line}")

    def json(self, *words: str, shown: bool = True) -> Any:
        """Runs a command with --json and gives the last object that it printed. Raises StepFailed."""
        if shown:
            self._show(words)
        lines = self._execute((*words, "--json")).splitlines()
        if not lines:
            raise StepFailed(f"'everlearn {' '.join(words)}' printed nothing: see 'everlearn status'")
        return json.loads(lines[-1])

    def _show(self, words: tuple[str, ...]) -> None:
        self.tell(f"  $ everlearn {' '.join(_quoted(word) for word in words)}")

    def _execute(self, words: tuple[str, ...]) -> str:
        command = [sys.executable, "-m", "agents", "--home", str(self.home), *words]
        # stderr is the user's own: progress bars, and the one line of a command that fails
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise StepFailed(f"the demo stops here, because '{words[0]}' failed as said above")
        return done.stdout


def _quoted(word: str) -> str:
    if word.startswith("/"):
        return Path(word).name
    return f'"{word}"' if " " in word else word
