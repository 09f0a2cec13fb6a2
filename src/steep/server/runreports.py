"""Reports of a run, read from its `reports.jsonl`: the store keeps what follows from them, and not each of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from steep.spec.reports import REPORT, Report


def read_reports(path: Path, after: int, kind: str | None, limit: int) -> list[Report]:
    """So many reports after a sequence number, all of them or those of a kind. What cannot be read is passed over."""
    found: list[Report] = []
    if not path.exists():
        return found
    mark = None if kind is None else f'"kind":"{kind}"'.encode()
    with open(path, "rb") as stream:
        for number, line in enumerate(stream):
            if number <= after or not line.endswith(b"\n") or (mark is not None and mark not in line):
                continue
            try:
                report = REPORT.validate_json(line)
            except ValidationError:
                continue
            if kind is None or report.kind == kind:
                found.append(report.model_copy(update={"sequence": number}))
            if len(found) >= limit:
                break
    return found
