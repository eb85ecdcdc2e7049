"""Runs supervisord with four additions. It keeps the programs' exit codes, forks workers with imports done, survives a
full disk, and never waits long before it starts a program again.

A worker spends most of its start on imports. supervisord therefore imports the modules that all workers need once
(``preload``) and acts as a fork server: a worker is forked from it instead of being executed. The workers also share
the memory of these modules. ``multiprocessing.forkserver`` does not fit here: its processes are children of its own
server, so supervisord could neither wait for them nor stop them, except through one more process for each worker that
passes on signals and the exit code.

On a full disk supervisord prints the error of its log to stderr, which is a file on the same disk, and ends of that. Or
it closes a program's output, and the program ends of that. ``LogFile`` drops such lines instead.

Started by ``infra.local.supervisor`` as ``python -m infra.local.supervisord -c FILE``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from supervisor import loggers
from supervisor.options import ProcessConfig, ServerOptions, decode_wait_status
from supervisor.process import Subprocess
from supervisor.supervisord import Supervisor, go

from infra.local.die_with_parent import BoundCommand, parse_bound_command, set_death_signal

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)
"""The signals that supervisord handles, besides SIGINT."""
LONGEST_PAUSE_SECONDS = 15
"""A program that keeps dying is started again at least this often. supervisord alone would wait a second longer each
time, so that after an hour of a full disk it would look once in a minute and a half whether there is room.
"""


class LogFile(loggers.RotatingFileHandler):  # type: ignore[misc] # the library is untyped
    """A log file that drops what cannot be written, for example while its disk is full."""

    stream: Any

    def emit(self, record: Any) -> None:
        """Writes a line, or drops it. Opens the file again where it could not be opened after a rotation."""
        with contextlib.suppress(OSError):
            if self.stream.closed:
                self.stream = Path(self.baseFilename).open("ab")  # noqa: SIM115 # closed by the library
            super().emit(record)

    def handleError(self) -> None:  # noqa: N802 # the library's name
        """Does nothing; the library's own prints a traceback to stderr, which is on the same disk."""


class Process(Subprocess):  # type: ignore[misc] # the library is untyped
    """A program with a bounded pause between two starts."""

    backoff: int

    def change_state(self, new_state: int, expected: bool = True) -> Any:
        """Called by the library; it counts the starts in ``backoff``, and pauses for so many seconds."""
        self.backoff = min(self.backoff, LONGEST_PAUSE_SECONDS - 1)
        return super().change_state(new_state, expected)


class Config(ProcessConfig):  # type: ignore[misc] # the library is untyped
    """The configuration of a program, which makes its process."""

    def make_process(self, group: Any = None) -> Process:
        process = Process(self)
        process.group = group
        return process


class Options(ServerOptions):  # type: ignore[misc] # the library is untyped
    """supervisord's options, which are also its interface to the operating system: waiting, forking, executing."""

    def __init__(self) -> None:
        super().__init__()
        self.exit_codes: dict[str, int] = {}
        """The exit code of each program's last death, -1 for a signal."""
        self.preloaded: set[str] = set()
        """The packages whose programs are forked."""

    def processes_from_section(self, parser: Any, section: str, group_name: str, klass: Any = None) -> Any:
        """Makes the configurations of a section's programs."""
        return super().processes_from_section(parser, section, group_name, klass or Config)

    def openhttpservers(self, supervisord: Supervisor) -> None:
        """Opens the socket. The library calls it critical that there is no password: only the socket's owner can use
        it, by its mode."""
        self.logger.critical = self.logger.debug
        try:
            super().openhttpservers(supervisord)
        finally:
            del self.logger.critical

    def waitpid(self) -> tuple[int | None, int | None]:
        """Waits for a child as supervisord does, which forgets the exit code when it starts the program again."""
        pid, status = super().waitpid()
        if pid and (process := self.pidhistory.get(pid)) is not None:
            self.exit_codes[process.config.name] = decode_wait_status(status)[0]
        return pid, status

    def execve(self, filename: str, argv: list[str], env: dict[str, str]) -> None:
        """Becomes the program; called in the forked child once its standard streams are set up."""
        bound = parse_bound_command(argv)
        if bound is not None and bound.command[:2] == [sys.executable, "-m"] and bound.command[2] in self.preloaded:
            self._run_module(bound, env)
        super().execve(filename, argv, env)

    def _run_module(self, bound: BoundCommand, environment: dict[str, str]) -> NoReturn:
        """Runs ``python -m MODULE …`` in this process as a new interpreter would, and ends with its exit code.

        The caller's frames stay alive underneath. No object of supervisord may be closed here: its descriptors are
        closed already, and their numbers may belong to other files by now.
        """
        from setproctitle import setproctitle

        code = 1
        try:
            for number in HANDLED_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # A SIGTERM may have arrived since the fork, while supervisord's handler was still in place.
            while (received := self.get_signal()) is not None:
                if received == signal.SIGTERM:
                    os.kill(os.getpid(), received)
            setproctitle(" ".join(bound.command))  # for ps; it has to come before the environment changes
            os.environ.clear()
            os.environ.update(environment)
            bound.bind()
            sys.argv = bound.command[2:]
            runpy.run_module(bound.command[2], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            if isinstance(stop.code, str):
                sys.stderr.write(f"{stop.code}\n")
        except BaseException:  # noqa: BLE001 - as the interpreter does; supervisord's code must not continue here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class Interface:
    """The methods that supervisord's socket offers as ``everlearn.*``."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def release(self) -> bool:
        """Lets supervisord live on when ``everlearn up`` ends: the stack is up and detached."""
        set_death_signal(0)
        return True

    def exit_codes(self) -> dict[str, int]:
        """The exit code of each program's last death, -1 for a signal; without those that have not died."""
        return self._options.exit_codes

    def preload(self, modules: list[str]) -> bool:
        """Imports modules; from now on ``python -m PACKAGE`` of their packages is forked instead of executed.

        Returns False where forking is not safe, and all programs are executed: after an import has started a thread,
        which a fork would not copy, and on systems other than Linux.
        """
        for each in modules:
            importlib.import_module(each)
        if sys.platform != "linux" or len(list(Path("/proc/self/task").iterdir())) > 1:
            return False
        self._options.preloaded |= {each.partition(".")[0] for each in modules}
        return True


def make_interface(supervisord: Supervisor, **_settings: str) -> Interface:
    """The factory that supervisord's configuration names."""
    return Interface(supervisord.options)


def main() -> None:
    """Runs supervisord until it is stopped. Unlike its own ``main`` this one does not start again after SIGHUP."""
    loggers.RotatingFileHandler = LogFile
    options = Options()
    options.realize(sys.argv[1:])
    options.first, options.test = True, False
    go(options)
    options.close_httpservers()
    options.close_logger()


if __name__ == "__main__":
    main()
