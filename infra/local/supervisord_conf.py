"""Writes supervisord's configuration file.

Its INI dialect needs care with paths that contain spaces, semicolons or percent signs.
"""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.die_with_parent import bound_command
from schemas.errors import ConfigurationError

CONFIGURATION = "supervisord.conf"
SERVICES = "services"
AGENTS = "agents"
LONGEST_SOCKET_PATH = 100
"""In bytes. The system allows 107 or fewer, and supervisord adds a few characters while it creates the socket."""
_UNQUOTED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=:,+@")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A process to keep running. Agents are stopped before the services that they use."""

    name: str
    command: list[str]
    group: str = AGENTS
    stop_seconds: float = 10.0
    """How long it may take to end after SIGTERM before it is killed."""
    stable_seconds: float = 10.0
    """A process that lived this long is restarted at once. A younger one is restarted after a growing delay."""
    death_signal: signal.Signals = signal.SIGKILL
    """The signal that it gets when supervisord dies."""

    @property
    def address(self) -> str:
        return f"{self.group}:{self.name}"


def write_configuration(folder: Path, programs: Sequence[Program]) -> None:
    """Writes the file and makes the folders that it names. Raises ConfigurationError when they cannot be written."""
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        _prepare_socket(socket_path(folder))
        (folder / CONFIGURATION).write_text(render(folder, programs), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}; choose another --home") from error


def socket_path(folder: Path) -> Path:
    """The socket on which supervisord listens: in its folder, or in the temporary folder when that path is too long."""
    path = folder / "supervisor.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"everlearn-{os.getuid()}-{name}" / "supervisor.sock"


def render(folder: Path, programs: Sequence[Program]) -> str:
    """The text of the file. Its paths are relative to ``folder``, in which supervisord runs."""
    path = socket_path(folder)
    sections = [
        (
            "supervisord",
            {
                "nodaemon": "true",
                "silent": "true",
                "logfile": "logs/supervisord.log",
                "logfile_maxbytes": "1MB",
                "logfile_backups": "1",
                "pidfile": "supervisord-own.txt",
                "childlogdir": "logs",
                "nocleanup": "true",
                "minfds": "256",
                "minprocs": "1",
                # Without it supervisord logs a critical error when root starts it, as in a container.
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
        ),
        (
            "unix_http_server",
            {"file": path.name if path.parent == folder else _escape(str(path)), "chmod": "0700"},
        ),
        (
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        ("rpcinterface:everlearn", {"supervisor.rpcinterface_factory": "infra.local.supervisord:make_interface"}),
    ]
    for group, priority in ((SERVICES, "1"), (AGENTS, "2")):
        if names := [program.name for program in programs if program.group == group]:
            sections.append((f"group:{group}", {"programs": ",".join(names), "priority": priority}))
    sections += [(f"program:{program.name}", _program(program, folder)) for program in programs]
    return "\n".join(
        f"[{title}]\n" + "".join(f"{name}={value}\n" for name, value in values.items()) for title, values in sections
    )


def _program(program: Program, folder: Path) -> dict[str, str]:
    command = bound_command(program.command, program.death_signal, folder / f"{program.name}.pid")
    return {
        "command": " ".join(_quote(each) for each in command),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": str(max(1, round(program.stable_seconds))),
        # Never give up, because the cause may go away. Each restart waits a second longer than the one before, up to
        # the bound in ``supervisord``.
        "startretries": "1000000",
        "stopwaitsecs": str(max(1, round(program.stop_seconds))),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"logs/{program.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "3",
    }


def _quote(argument: str) -> str:
    """Quotes an argument for shlex, with no bare space before a ``;`` or ``#``, which would begin a comment."""
    if "\n" in argument or "\r" in argument:
        raise ConfigurationError("a path of the stack contains a line break: choose another --home")
    if not argument:
        return "''"
    return "".join(each if each in _UNQUOTED else '"\'"' if each == "'" else f"'{_escape(each)}'" for each in argument)


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _prepare_socket(path: Path) -> None:
    """Removes an old socket, and makes the folder of a socket in the temporary folder."""
    path.unlink(missing_ok=True)
    if path.parent.exists():
        return
    # The temporary folder is shared with other users, who must not reach the socket.
    path.parent.mkdir(mode=0o700)
