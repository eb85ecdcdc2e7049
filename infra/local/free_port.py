"""Finds a free TCP port for an embedded server: the usual one, or any other when that is in use."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import IO

from infra.local.locks import try_lock
from schemas.errors import ConfigurationError


def claim_port(usual: int, folder: Path | None = None) -> tuple[int, IO[str] | None]:
    """The usual port, with the open file that reserves it until it is closed; or any free port and None.

    Without the reservation, two stacks that start at the same time would both find the port free, and one of them would
    use the other's server. The same would happen while a server is being restarted. The reservation is a lock in
    ``folder``, by default the folder for temporary files, which all stacks of this machine share.
    """
    try:
        claim = try_lock((folder or Path(tempfile.gettempdir())) / f"everlearn-port-{usual}.lock")
    except ConfigurationError:  # the file belongs to another user
        claim = None
    if claim is not None and is_free(usual):
        return usual, claim
    if claim is not None:
        claim.close()
    return free_port(), None


def free_port(preferred: int = 0) -> int:
    """``preferred`` when nothing listens there on this machine, any free port otherwise."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the servers do: without it, connections left by a stopped server would make the port seem in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
