"""A small file system that fills up, for benchmarks and tests of a full disk."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMount(Exception):
    """This process may not mount a file system."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size at ``folder``. Raises CannotMount."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotMount(f"no file system can be mounted ({error})") from error
    if mounted.returncode != 0:
        raise CannotMount(f"no file system can be mounted ({mounted.stderr.strip()}): run it as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


class Balloon:
    """A file that takes all room of a disk, also what others give back, until it is released."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "balloon"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._blow, daemon=True)

    def _blow(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            while not self._stop.is_set():
                for size in (1024 * 1024, 4096):
                    with contextlib.suppress(OSError):
                        while file.write(bytes(size)) == size and not self._stop.is_set():
                            pass
                self._stop.wait(0.02)

    def __enter__(self) -> Balloon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)
