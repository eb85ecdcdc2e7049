"""What Everlearn adds to supervisord: exit codes that are kept, the tie to its starter cut, workers that start warm.

A worker's imports take longer than all else that it does to start. The modules that all have in common are imported
once, here, and a worker is forked from them; what it shares with the others stays in memory once.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from infra.local.die_with_parent import Tether, bind, tie, untethered


class Keeper:
    """Called over supervisord's socket as ``everlearn.*``."""

    def __init__(self, options: Any) -> None:
        self._options = options
        self._codes: dict[str, int] = {}
        self._warm: set[str] = set()
        self._wait, options.waitpid = options.waitpid, self._remember
        self._exec, options.execve = options.execve, self._start

    def release(self) -> bool:
        """From now on supervisord lives on when ``everlearn up`` has ended: the stack is up and detached."""
        tie(0)
        return True

    def exit_codes(self) -> dict[str, int]:
        """The exit code of each program's last death, -1 for a signal; without those that have not died."""
        return self._codes

    def preload(self, modules: list[str]) -> bool:
        """Imports modules; programs ``python -m PACKAGE`` of their packages start from them from now on.

        False where that is not safe, and all start cold: a fork takes none of the threads along, and no other system
        than Linux takes a fork without an exec well.
        """
        for each in modules:
            importlib.import_module(each)
        if sys.platform != "linux" or len(list(Path("/proc/self/task").iterdir())) > 1:
            return False
        gc.collect()
        gc.freeze()  # a collection that wrote into what is shared would make it everybody's own
        self._warm |= {each.partition(".")[0] for each in modules}
        return True

    def _remember(self) -> tuple[int | None, int | None]:
        """supervisord forgets the code of what dies young or is started again."""
        from supervisor.options import decode_wait_status

        pid, status = self._wait()
        if pid and (process := self._options.pidhistory.get(pid)) is not None:
            self._codes[process.config.name] = decode_wait_status(status)[0]
        return pid, status

    def _start(self, filename: str, arguments: list[str], environment: dict[str, str]) -> None:
        """In the forked child, whose descriptors are in place: becomes the program."""
        tether = untethered(arguments)
        if tether is not None and tether.command[:2] == [sys.executable, "-m"] and tether.command[2] in self._warm:
            _become(tether, environment, self._options.get_signal)
        self._exec(filename, arguments, environment)


def make_interface(supervisord: Any, **_settings: str) -> Keeper:
    """Named in supervisord's configuration."""
    return Keeper(supervisord.options)


def _become(tether: Tether, environment: dict[str, str], received: Callable[[], int | None]) -> NoReturn:
    """Runs ``python -m MODULE …`` in this process as a new one would, and ends with it.

    ``received``: the next signal that supervisord's handler took, which is still this process's own.

    Nothing of supervisord's may be collected here: what it had open is closed, and its numbers are free for others.
    """
    from setproctitle import setproctitle

    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        while (missed := received()) is not None:
            if missed == signal.SIGTERM:  # told to stop before it could hear it
                os.kill(os.getpid(), missed)
        setproctitle(" ".join(tether.command))  # what ps shows; it needs the environment that this process began with
        os.environ.clear()
        os.environ.update(environment)
        bind(tether)
        sys.argv = tether.command[2:]
        runpy.run_module(tether.command[2], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
    except BaseException:  # noqa: BLE001 - as the interpreter does it: supervisord's code above must not go on
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
