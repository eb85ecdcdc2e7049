"""A home folder whose stack has a tiny base model, and the processes in it that may be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from agents.cli.status import gather
from benchmarks.question_flow import CACHE
from infra.local.supervisor import Supervisor
from infra.settings import Settings, load
from schemas.errors import Unavailable
from schemas.event import JsonObject
from tests.fixtures.stack import RunningHome
from tests.fixtures.tiny_model import write_tiny_model

SUPERVISOR = "supervisor"
BROKER = "kafka"
TASK = "routing"
CONFIGURATION = """\
[model]
base = "{base}"
folder = "{models}"
threads = 1

[answerer]
context_tokens = 256

[monitor]
reference_rows = 40
current_rows = 30
every_rows = 200
cool_down_seconds = 1
tick_seconds = 2

[trainer]
learning_rate = 2e-2
batch_rows = 4
minimum_rows = 8
window_rows = 40
holdout_share = 0.3
epochs = 1
max_tokens = 40
checkpoint_steps = 2

[validator]
max_general_loss = 100
min_gain = 0
chance = 0.99
current_rows = 8
retention_rows = 8

[promoter]
shares = [0.5]
judged = 8
margin = 0.9
tick_seconds = 1

[worker]
session_timeout_seconds = 6
heartbeat_seconds = 1

[tasks.routing]
instruction = "the man is"
metric = "exact_match"
labels = ["rain", "stone"]
max_tokens = 4

[tasks.support]
instruction = "the old man"
retrieval = true
max_tokens = 4
floor = 0.0
"""


class CampaignHome:
    """The stack of one block. Its processes are real; only the base model is tiny, so that it loads in a second."""

    def __init__(self, folder: Path) -> None:
        models = CACHE / "models"
        self.home = RunningHome(folder / "home", models)
        self.home.path.mkdir(parents=True)
        base = write_tiny_model(folder / "tiny", window=512)
        self.base = base
        (self.home.path / "everlearn.toml").write_text(CONFIGURATION.format(base=base, models=models))
        self.settings: Settings = load(self.home.path, environ={})
        self._supervisor = Supervisor(self.settings.run_folder)

    def up(self) -> None:
        self.home.run("up", "--detach")

    def pids(self) -> dict[str, int]:
        """Returns the processes that run now, by agent; the broker and the supervisor under their own names."""
        try:
            processes = self._supervisor.processes()
        except Unavailable:
            return {}
        found = {each.name.removesuffix("-1"): each.pid for each in processes if each.pid is not None}
        with contextlib.suppress(OSError, ValueError):
            found[SUPERVISOR] = int((self.settings.run_folder / "supervisord.pid").read_text())
        return found

    def kill(self, pid: int) -> bool:
        """Kills a process. Returns False when it had ended already."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def until_ready(self, seconds: float) -> list[JsonObject]:
        """Waits until every worker is ready and nothing waits. Returns the workers of which that is not so."""
        deadline = time.monotonic() + seconds
        while True:
            workers = gather(self.settings)["workers"]
            behind = [each for each in workers if not each["ready"] or each["lag"]]
            if (workers and not behind) or time.monotonic() > deadline:
                return behind
            time.sleep(1.0)

    def problems(self) -> str:
        """Returns the ends of all logs."""
        return self.home.logs()


@contextlib.contextmanager
def campaign_home(folder: Path) -> Iterator[CampaignHome]:
    """Starts the stack, and stops it at the end."""
    home = CampaignHome(folder)
    try:
        home.up()
        yield home
    finally:
        home.home.run("down", check=False)
