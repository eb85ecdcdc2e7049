"""The parent's side of conversion: runs the child process, and replaces it whenever a file has killed it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from infra.conversion.document import Converted, Unreadable

FILES_PER_CHILD = 500
"""After this number of files a new child is started, because libraries leak memory."""
SECONDS_PER_FILE = 60.0
MEMORY_BYTES = 2 * 1024**3


class Converter:
    """Converts files in a child process, which the first file starts. Close it after use.

    ``seconds``: the time limit for each file. ``memory_bytes``: how much address space the child may use.
    """

    def __init__(self, *, seconds: float = SECONDS_PER_FILE, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._served = 0

    def convert(self, path: Path) -> Converted:
        """Converts a file to Markdown. Raises Unreadable, also when the file killed the child process."""
        if self._served >= FILES_PER_CHILD:
            self.close()
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(str(path.absolute())).encode() + b"\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            if not self._served:
                raise Unreadable(self._reason_of_death(child)) from None
            self.close()  # it died before this file, so this file is not the cause
            return self.convert(path)
        if not answer.endswith(b"\n"):
            raise Unreadable(self._reason_of_death(child))
        self._served += 1
        found = json.loads(answer)
        if found["last"]:
            served = self._served
            self.close()
            if served > 1:  # earlier files may have used the memory: try this one in a new child
                return self.convert(path)
        if "unreadable" in found:
            raise Unreadable(found["unreadable"])
        return Converted(found["text"], found["title"])

    def close(self) -> None:
        """Ends the child process. The next file starts another one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def __enter__(self) -> Converter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: the child must not import modules from the current folder.
        self._served = 0
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "infra.conversion.child", str(self._seconds), str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._child

    def _reason_of_death(self, child: subprocess.Popen[bytes]) -> str:
        """Collects a child that has ended, and says why it ended."""
        code = child.wait()
        self.close()
        if code == -signal.SIGALRM:
            return f"takes longer than {self._seconds:g} s to read: split it, or save it again"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"it crashed its reader ({how}): it is damaged or hostile; save it again"
