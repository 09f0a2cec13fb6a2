"""What the server says: one line of JSON each, with the ids of jobs and attempts where they matter, and without secrets."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time

from steep.artifacts.redaction import Redaction

_JOB = re.compile(r"\b(job-[0-9a-z]{12})(?:/(\d+))?\b")


class JsonLines(logging.Formatter):
    """Formats records as JSON.

    Args:
        redact: takes secrets out of a text.
    """

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        text = record.getMessage()
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "from": record.name,
            "text": self._redact(text),
        }
        found = _JOB.search(text)
        if found is not None:
            line["job"] = found[1]
            if found[2]:
                line["attempt"] = int(found[2])
        if record.exc_info:
            line["error"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def begin_logging(level: int = logging.INFO) -> None:
    """From now on everything is said to standard error, in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(Redaction.of(os.environ)))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("uvicorn.access", "httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
