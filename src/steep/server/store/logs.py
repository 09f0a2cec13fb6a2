"""What workers' processes wrote, line by line, kept in chunks. Offsets are bytes of the run's file, over all attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from sqlalchemy import insert, select

from steep.server.store.database import Database, Transaction
from steep.server.store.tables import log_chunks
from steep.spec.api.attempts import LogLine

Stream = Literal["stdout", "stderr", "log"]
MAX_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LogText:
    """Whole lines of a stream, in order.

    Args:
        text: with a newline after each line.
        next_offset: where to read on.
        is_end: there is no more now.
    """

    text: str
    next_offset: int
    is_end: bool


class Logs:
    """Read what workers wrote."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, job_id: str, stream: Stream, offset: int = 0, max_bytes: int = MAX_READ_BYTES) -> LogText:
        """What is there of a stream from a byte offset on: whole lines, about so many bytes of them at most.

        What was written before the oldest line that is kept is passed over.
        """
        wanted = (
            select(log_chunks)
            .where(log_chunks.c.job_id == job_id, log_chunks.c.stream == stream, log_chunks.c.end > offset)
            .order_by(log_chunks.c.offset)
        )
        pieces: list[str] = []
        reached, size = offset, 0
        with self._database.read() as connection, connection.execute(wanted.execution_options(yield_per=16)) as rows:
            for row in rows:
                if size >= max_bytes:
                    return LogText("".join(pieces), reached, is_end=False)
                pieces.append(row.text)
                reached, size = row.end, size + (row.end - row.offset)
        return LogText("".join(pieces), reached, is_end=True)


def accept_lines(
    transaction: Transaction, job_id: str, attempt: int, lines: Sequence[LogLine], known: Mapping[str, int]
) -> dict[str, int]:
    """Keep those lines that are new and follow on what is there. Returns by stream the offset where the next one begins."""
    reached = dict(known)
    chunks = []
    for stream, of_stream in groupby(
        sorted(lines, key=lambda line: (line.stream, line.offset)), lambda one: one.stream
    ):
        kept: list[LogLine] = []
        for line in of_stream:
            if line.offset == reached.get(stream, 0) and line.end > line.offset:
                kept.append(line)
                reached[stream] = line.end
        if kept:
            chunks.append(
                {
                    "job_id": job_id,
                    "stream": stream,
                    "offset": kept[0].offset,
                    "end": kept[-1].end,
                    "attempt": attempt,
                    "text": "".join(f"{line.text}\n" for line in kept),
                    "time": kept[-1].time or transaction.now,
                }
            )
    if chunks:
        transaction.execute(insert(log_chunks), chunks)
    return reached
