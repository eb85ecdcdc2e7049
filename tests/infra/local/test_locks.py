"""Locks that die with their holder."""

import subprocess
import sys

from infra.local.locks import locked, try_lock

HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX);"
    "print(1, flush=True); time.sleep(99)"
)


def test_a_lock_is_held_until_its_file_is_closed(tmp_path):
    path = tmp_path / "deep" / "lock"
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    first.close()
    with locked(path):
        assert try_lock(path) is None


def test_a_killed_holder_lets_go(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert try_lock(path) is None
        holder.kill()
    lock = try_lock(path)
    assert lock is not None
    lock.close()
