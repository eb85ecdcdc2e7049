"""Finds and deletes the reports in a folder: ``<folder>/<task>/<name>.html`` and ``.json``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import structlog

from schemas.drift import StoredReport

log = structlog.get_logger()

_NAME = re.compile(r"(?P<name>[0-9a-f][0-9a-f-]{30,35})\.(html|json)")
"""A UUID or the id of an adapter. Whatever else lies in the folder, such as scripts that pages share, is left alone."""


class ReportFolder:
    """The reports below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[StoredReport]:
        """Returns the reports, the oldest first."""
        found: dict[tuple[str, str], StoredReport] = {}
        for path in self._folder.glob("*/*"):
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            try:
                facts = path.stat()
            except FileNotFoundError:  # another worker has just deleted it
                continue
            key = path.parent.name, match["name"]
            size = found[key].size_bytes if key in found else 0
            found[key] = StoredReport(
                task=key[0],
                name=key[1],
                written_at=datetime.fromtimestamp(facts.st_mtime, UTC),
                size_bytes=size + facts.st_size,
            )
        return sorted(found.values(), key=lambda each: (each.written_at, each.name))

    def older(self, before: datetime) -> list[StoredReport]:
        """Returns the reports that were written before then, the oldest first."""
        return [each for each in self.all() if each.written_at < before]

    def remove(self, report: StoredReport) -> bool:
        """Deletes a report. Returns False, and logs the reason, where that fails."""
        try:
            for suffix in (".html", ".json"):
                (self._folder / report.task / f"{report.name}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            log.warning("not deleted", report=report.name, reason=str(error))
            return False
        return True
