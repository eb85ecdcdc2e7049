"""Starts supervisord and controls it: starts programs, lists them, and stops everything.

supervisord restarts the programs that die. This module talks to it over its socket. supervisord holds the lock of its
folder while it lives, so a held lock means that it runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xmlrpc.client import Error as RemoteError
from xmlrpc.client import ServerProxy

from infra.local.die_with_parent import PARENT, bound_command
from infra.local.locks import try_lock
from infra.local.supervisord_conf import CONFIGURATION, Program, socket_path, write_configuration
from schemas.errors import ConfigurationError, Unavailable

START_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """A supervised process as supervisord sees it. ``pid`` is None while it does not run."""

    name: str
    group: str
    pid: int | None
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF (died early, waits to be restarted), STOPPING, EXITED or FATAL."""


class Supervisor:
    """The supervisord of one run folder, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether supervisord lives, whatever files an earlier one has left."""
        if not (self.folder / "lock").exists():
            return False
        lock = try_lock(self.folder / "lock")
        if lock is None:
            return True
        lock.close()
        return False

    def launch(self, programs: Sequence[Program], lock: IO[str], claims: Sequence[IO[str]] = ()) -> None:
        """Starts supervisord without any program. Until ``release`` it ends when this process ends.

        ``lock`` is the result of ``try_lock(folder / "lock")``, and ``claims`` are locks on what the programs need for
        themselves, such as ports. supervisord inherits them, and they are closed here: if this process held them too,
        a supervisord that was killed would seem to live.
        """
        with contextlib.ExitStack() as locks:
            for each in (lock, *claims):
                locks.enter_context(each)
            self._end_leftovers()
            write_configuration(self.folder, programs)
            self._spawn([lock, *claims])
        self._await_answer()

    def _spawn(self, locks: Sequence[IO[str]]) -> None:
        arguments = [sys.executable, "-m", "infra.local.supervisord", "-c", CONFIGURATION]
        with (self.folder / "logs" / "supervisord-output.log").open("wb") as output:
            self._process = subprocess.Popen(
                bound_command(arguments, signal.SIGTERM, self.folder / "supervisord.pid"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                pass_fds=[each.fileno() for each in locks],
                # A session of its own: Ctrl-C and a closed terminal then reach only us, and we stop it in order.
                start_new_session=True,
                env={**os.environ, PARENT: str(os.getpid())},
            )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(Unavailable):
                self._call("supervisor.getState")
                return
            if self._process is not None and self._process.poll() == 0:
                raise Unavailable("supervisord was stopped while it started, as by 'everlearn down'")
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                last_lines = " ".join(_tail(self.folder / "logs" / "supervisord-output.log", 2))
                raise Unavailable(f"supervisord does not start: {last_lines or 'its log is empty'}")
            time.sleep(0.02)

    def start(self, program: Program) -> None:
        """Starts a program, which supervisord restarts whenever it dies."""
        self._call("supervisor.startProcess", program.address, False)

    def preload(self, modules: Sequence[str]) -> bool:
        """Imports modules in supervisord, which from now on forks ``python -m PACKAGE`` of their packages from itself.

        Returns False where that is not safe; such programs are then executed like any other.
        """
        return bool(self._call("everlearn.preload", list(modules)))

    def release(self) -> None:
        """Lets supervisord live when this process ends."""
        self._call("everlearn.release")

    def processes(self) -> list[Process]:
        """Raises Unavailable when there is no supervisord."""
        return [
            Process(
                name=each["name"],
                group=each["group"],
                pid=each["pid"] or None,
                state=each["statename"],
            )
            for each in self._call("supervisor.getAllProcessInfo")
        ]

    def exit_codes(self) -> dict[str, int]:
        """The exit code of each program's last death, even if it runs again; -1 for a signal. Raises Unavailable."""
        codes: dict[str, int] = self._call("everlearn.exit_codes")
        return codes

    def stop(self, timeout_seconds: float, afterwards: Callable[[], None] = lambda: None) -> None:
        """Stops all programs, agents first, and supervisord. Returns when no process is left.

        Kills what has not ended in time. Does nothing when nothing runs. ``afterwards`` is called before another
        supervisord can be started in the folder, and not at all if one was started already.
        """
        pid_file = self.folder / "supervisord.pid"
        stopping = None
        """The id of the supervisord that is stopping. Another one may be started as soon as it has ended."""
        deadline = time.monotonic() + timeout_seconds
        while self.running and stopping in (None, _text(pid_file)) and time.monotonic() < deadline:
            if stopping is None:  # it may not listen yet
                with contextlib.suppress(Unavailable):
                    asked = _text(pid_file)
                    self._call("supervisor.shutdown")
                    stopping = asked
            if self._process is not None:
                self._process.poll()
            time.sleep(0.03)
        if self.running and stopping in (None, _text(pid_file)):
            _kill(pid_file)
        if self._process is not None:
            self._process.wait(START_SECONDS)
        # With the lock, or else the processes and files of a stack that has just been started would go too.
        if self.folder.is_dir() and (lock := self._lock_after_end()) is not None:
            with lock:
                self._end_leftovers()
                afterwards()

    def _lock_after_end(self) -> IO[str] | None:
        """The lock of the folder; None when another supervisord has taken it."""
        for _ in range(50):
            if (lock := try_lock(self.folder / "lock")) is not None:
                return lock
            time.sleep(0.02)  # a process that asks whether a stack runs holds it for a moment; a killed one ends
        return None

    def wait(self, meanwhile: Callable[[], None] = lambda: None, every_seconds: float = 5.0) -> int:
        """Blocks until supervisord has ended, and returns its exit code. Calls ``meanwhile`` now and then."""
        if self._process is None:
            raise ConfigurationError("only the process that launched supervisord can wait for it")
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(every_seconds)
            meanwhile()

    def last_lines(self, name: str, count: int = 10) -> list[str]:
        """The end of a program's log."""
        return _tail(self.log(name), count)

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _call(self, method: str, *arguments: object) -> Any:
        path = socket_path(self.folder)
        if not path.exists():
            raise Unavailable(self._reason())
        # Imported here because few commands need it.
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{path}")
        proxy = ServerProxy("http://localhost", transport=transport)
        try:
            call: Any = proxy
            for part in method.split("."):
                call = getattr(call, part)
            return call(*arguments)
        except (OSError, RemoteError) as error:
            raise Unavailable(f"supervisord in {self.folder} does not answer ({error}): {self._reason()}") from error
        finally:
            transport.close()

    def _reason(self) -> str:
        """Why supervisord does not answer, and what to do."""
        if self._process is not None and self._process.poll() is not None:
            last_lines = " ".join(_tail(self.folder / "logs" / "supervisord-output.log", 1)) or "it was killed"
            return f"supervisord has ended ({last_lines}): start again with 'everlearn up'"
        return f"no supervisord runs in {self.folder}: start it with 'everlearn up'"

    def _end_leftovers(self, patience_seconds: float = 8.0) -> None:
        """Waits for processes that outlived a killed supervisord, for example to close files, and then kills them."""
        deadline = time.monotonic() + patience_seconds
        files = sorted(self.folder.glob("*.pid"))
        while living := [each for each in files if _lives(each)]:
            if time.monotonic() > deadline:
                for each in living:
                    _kill(each)
                deadline = time.monotonic() + patience_seconds
            time.sleep(0.03)
        for each in files:
            each.unlink(missing_ok=True)


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text()
    return None


def _lives(pid_file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), pid_file.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _kill(pid_file: Path) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        if _lives(pid_file):
            os.kill(pid, signal.SIGKILL)


def _tail(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
