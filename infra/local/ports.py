"""Finds a port for the embedded servers: the usual one, or any free one when that is taken."""

from __future__ import annotations

import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from agents.errors import ConfigurationError
from infra.local.locks import try_lock


class Claims:
    """The usual ports that a start has chosen and where nobody listens yet: no other start takes them meanwhile.

    Without, of two stacks that start at the same time the one would use the other's broker. Let go of with the
    process, or by ``release`` once the servers listen.
    """

    def __init__(self) -> None:
        self._locks = ExitStack()

    def port(self, usual: int) -> int:
        """The usual port, or any free one where somebody has that or means to."""
        try:
            lock = try_lock(Path(tempfile.gettempdir()) / f"everlearn-port-{usual}.lock")
        except ConfigurationError:  # another user's file
            lock = None
        if lock is not None and is_free(usual):
            self._locks.enter_context(lock)
            return usual
        if lock is not None:
            lock.close()
        return free_port()

    def release(self) -> None:
        self._locks.close()


def free_port(preferred: int = 0) -> int:
    """``preferred`` when nobody listens there on this machine, any free port otherwise."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the servers do, or the connections that a stopped one leaves behind would seem to take the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
