"""A progress bar for long work that reports a share and what it is at, such as a download or a conversion."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agents.cli.output import note

ShowShare = Callable[[float, str], None]
"""Told a share from 0 to 1 and what is being done."""


@contextmanager
def share_bar() -> Iterator[ShowShare]:
    """On a terminal a bar on stderr, that disappears when it is done; elsewhere a line for each new piece of work.

    Work that was done before shows nothing.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console  # here, because it takes longer to import than most commands run
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _lines() -> ShowShare:
    said = ""

    def show(share: float, text: str) -> None:
        nonlocal said
        subject = text.partition(":")[0]
        if share < 1.0 and subject != said:
            said = subject
            note(f"         {subject} …")

    return show
