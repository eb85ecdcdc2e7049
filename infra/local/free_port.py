"""Finds a port for the embedded servers: the usual one, or any free one when that is taken."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import IO

from infra.local.locks import try_lock
from schemas.errors import ConfigurationError


def claim_port(usual: int) -> tuple[int, IO[str] | None]:
    """The usual port and the open file that claims it until it is closed, or any free port and None.

    Of two stacks that start at the same time, or of which one's server is being started again, both would find the
    port free, and one of them would use the other's server.
    """
    try:
        claim = try_lock(Path(tempfile.gettempdir()) / f"everlearn-port-{usual}.lock")
    except ConfigurationError:  # another user's file
        claim = None
    if claim is not None and is_free(usual):
        return usual, claim
    if claim is not None:
        claim.close()
    return free_port(), None


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
