"""Follow a run's `reports.jsonl` while it grows."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from steep.spec.reports import REPORT, Report


class Tail:
    """Reads what was added since the last time. A half-written last line is left for the next time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Report]:
        """The reports that are new, in order. A line that is not a report (a newer worker's) is passed over."""
        try:
            with open(self._path, "rb") as stream:
                stream.seek(self._offset)
                content = stream.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        reports: list[Report] = []
        for line in whole.splitlines():
            try:
                reports.append(REPORT.validate_json(line))
            except ValidationError:
                continue
        return reports
