"""What a run directory holds that the server does not have yet: reports by number, printed lines by offset.

The files are the outbox: nothing is queued elsewhere, so an outage of any length costs no memory, and a later attempt, or
the server itself, sends what an earlier one could not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from steep.artifacts.rundir import RunDirectory
from steep.spec.api.attempts import LogLine, ReportsRequest
from steep.spec.reports import REPORT, NoticeReport, Report

BATCH_REPORTS = 500
BATCH_BYTES = 256 << 10
"""Of reports, and as many of each stream of lines, in one request."""
LINE_BYTES = 16 << 10
"""Longer lines are cut."""

Stream = Literal["stdout", "stderr"]


class Outbox:
    """Reads what is to be sent. Where it stands is told to it, by whoever knows what the server has.

    Args:
        run: whose it is.
        redact: takes secrets out of what leaves.
    """

    def __init__(self, run: RunDirectory, redact: Callable[[str], str]) -> None:
        self._reports = _Reports(run.reports_file, redact)
        files: dict[Stream, Path] = {"stdout": run.path / "worker.out", "stderr": run.path / "worker.err"}
        self._lines: dict[str, _Lines] = {name: _Lines(path, name, redact) for name, path in files.items()}

    def move(self, next_report: int, next_log: Mapping[str, int]) -> None:
        """Go on with these: what the server does not have."""
        self._reports.move(next_report)
        for stream, lines in self._lines.items():
            lines.offset = next_log.get(stream, 0)

    def batch(self, *, most: int = BATCH_REPORTS, to_the_end: bool = False) -> ReportsRequest:
        """What comes next, of a bounded size; the same again until it is moved.

        Args:
            most: reports and lines of each stream, at most.
            to_the_end: the last line too, though it has no end yet.
        """
        logs = tuple(line for lines in self._lines.values() for line in lines.read(most, to_the_end))
        return ReportsRequest(reports=tuple(self._reports.read(most)), logs=logs)

    def leave_out(self, request: ReportsRequest) -> None:
        """From now on, send a note in place of each report and line of this request: the server does not take it."""
        self._reports.left_out.update(report.sequence for report in request.reports)
        for line in request.logs:
            self._lines[line.stream].left_out.add(line.offset)


class _Reports:
    """Reports from a number on. The number of a report is that of its line, whatever else is wrong with it."""

    def __init__(self, path: Path, redact: Callable[[str], str]) -> None:
        self._path = path
        self._redact = redact
        self._number = 0
        self._offset = 0
        self.left_out: set[int] = set()

    def move(self, number: int) -> None:
        """Stand before the line of a number, or at the end where there is none yet."""
        if number < self._number:
            self._number = self._offset = 0
        for line in self._whole_lines():
            if self._number == number:
                return
            self._number += 1
            self._offset += len(line)

    def read(self, most: int) -> Iterator[Report]:
        """What follows."""
        size_bytes = 0
        for number, line in enumerate(self._whole_lines(), self._number):
            size_bytes += len(line)
            if number - self._number >= most or (size_bytes > BATCH_BYTES and number > self._number):
                return
            yield self._report(number, line)

    def _whole_lines(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with open(self._path, "rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):  # it is being written
                    return
                yield line

    def _report(self, number: int, line: bytes) -> Report:
        try:
            report = REPORT.validate_json(line) if number not in self.left_out else _note(number, "was refused")
        except ValidationError:
            report = _note(number, "cannot be read")
        words = {name: getattr(report, name) for name in ("detail", "message", "what") if hasattr(report, name)}
        clean = {name: self._redact(text) for name, text in words.items()}
        return report.model_copy(update={"sequence": number, **clean})


def _note(number: int, what: str) -> Report:
    return NoticeReport(
        level="warning", code="report_left_out", message=f"report {number} of the run {what}", time=time.time()
    )


class _Lines:
    """Lines of what the worker printed on one stream, from an offset on."""

    def __init__(self, path: Path, stream: Stream, redact: Callable[[str], str]) -> None:
        self.offset = 0
        self.left_out: set[int] = set()
        self._path = path
        self._stream: Stream = stream
        self._redact = redact

    def read(self, most: int, to_the_end: bool) -> Iterator[LogLine]:
        """What follows."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as stream:
            stream.seek(self.offset)
            content = stream.read(BATCH_BYTES)
        to_the_end = to_the_end and len(content) < BATCH_BYTES
        begin, now = 0, time.time()
        for _ in range(most):
            end, following = _line_end(content, begin, to_the_end)
            if following == begin:
                return
            text = content[begin:end].decode("utf-8", errors="replace").replace("\0", "\ufffd")
            if self.offset + begin in self.left_out:
                text = "[this line was refused]"
            yield LogLine(
                stream=self._stream,
                offset=self.offset + begin,
                end=self.offset + following,
                text=self._redact(text),
                time=now,
            )
            begin = following


def _line_end(content: bytes, begin: int, to_the_end: bool) -> tuple[int, int]:
    """Where the line that begins there ends, and where the next one begins; there again when it has no end yet."""
    end = content.find(b"\n", begin, begin + LINE_BYTES)
    if end >= 0:
        return end, end + 1
    if len(content) - begin <= LINE_BYTES:
        return (len(content), len(content)) if to_the_end else (begin, begin)
    end = begin + LINE_BYTES
    word = content.rfind(b" ", begin + LINE_BYTES // 2, end)  # between words: a secret is not cut in two
    if word > 0:
        return word, word + 1
    while content[end] & 0xC0 == 0x80 and end > begin + LINE_BYTES - 4:  # within a character
        end -= 1
    return end, end
