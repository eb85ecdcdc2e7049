"""Adapters come to their place whole or not at all, whoever else installs them and however full the disk is."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.adapters.files import (
    FILES,
    PROBES,
    adapter_id_of,
    install,
    read_probes,
    verify,
    write_probes,
)
from schemas.errors import AdapterMissing, Unavailable
from schemas.generation import ChatMessage
from schemas.registry import Probe
from tests.infra.adapters.test_files import ROOT, make, names


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make(tmp_path / "source")


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: like a disk that fills up, at exactly that place."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_is_half_installed_on_a_full_disk(tmp_path, adapters):
    source = make(tmp_path / "large", rows=100_000)
    with disk_of(1_000_000), pytest.raises(Unavailable, match="make room there"):
        install(source, adapters)
    assert names(adapters) == []
    install(source, adapters)


def test_probes_are_written_whole_or_not_at_all(source, adapters):
    _, folder = install(source, adapters)
    kept = [Probe(messages=(ChatMessage("system", "Be kind."), ChatMessage("user", "Hi")), output="Ho", max_tokens=4)]
    write_probes(folder, kept)
    with disk_of(1000), pytest.raises(Unavailable):
        write_probes(folder, [Probe(messages=(ChatMessage("user", "x" * 5000),), output="y")])
    assert read_probes(folder) == tuple(kept)
    assert names(folder) == sorted([*FILES, PROBES])


def test_there_may_be_no_probes_and_damaged_ones_are_told(source, adapters):
    adapter_id, folder = install(source, adapters)
    assert read_probes(folder) == ()
    for content in (b"{", b"[1]", b'[{"messages": []}]'):
        (folder / PROBES).write_bytes(content)
        with pytest.raises(AdapterMissing, match="damaged"):
            read_probes(folder)
    verify(adapter_id, folder)


def test_several_processes_may_install_the_same_adapter_at_once(tmp_path, adapters):
    source = make(tmp_path / "large", rows=20_000)
    script = "import sys; from pathlib import Path; from infra.adapters.files import install\n"
    script += "for _ in range(5): print(install(Path(sys.argv[1]), Path(sys.argv[2]))[0])"
    command = [sys.executable, "-c", script, str(source), str(adapters)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert {each for lines in said for each in lines} == {adapter_id_of(source)}
    assert names(adapters) == [adapter_id_of(source)]


def test_what_a_killed_installation_left_is_removed_once_it_is_old(source, adapters):
    install(source, adapters)
    old, young = adapters / ".part-old", adapters / ".part-young"
    for each in (old, young):
        each.mkdir()
    os.utime(old, (time.time() - 86_400,) * 2)
    install(source, adapters)
    assert [each.exists() for each in (old, young)] == [False, True]
