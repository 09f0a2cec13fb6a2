"""The server's side of a worker's line: takes in reports and lines once and in order, as the API says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.client.service import Reply, Seen, Service, ok, problem

TOKEN = "token-of-attempt-1"


class Ear:
    """What a service of jobs keeps of what workers say. `attempt` is the one whose token opens something."""

    def __init__(self, service: Service) -> None:
        self.attempt = 1
        self.tokens = {1: TOKEN, 2: "token-of-attempt-2"}
        self.reports: list[dict[str, Any]] = []
        self.text: dict[str, str] = {}
        self.next_log: dict[str, int] = {}
        self.samples: list[dict[str, Any]] = []
        self.directive = "none"
        self.detail = ""
        self.lease_seconds = 0.9
        self.heard: list[float] = []
        self.repeated = 0
        self.refuses: Callable[[dict[str, Any]], bool] = lambda report: False
        self.lock = threading.Lock()
        self.service = service
        service.token = TOKEN
        service.route("POST", "/attempts/job-0/([0-9]+)/reports", self.answer)

    def answer(self, seen: Seen, number: str) -> Reply:
        with self.lock:
            if int(number) != self.attempt:
                return problem(409, "this attempt is over", detail="attempt 2 has the job now", code="fenced")
            body = seen.json()
            if any(map(self.refuses, body["reports"])):
                return problem(422, "a report is not valid", code="invalid_input")
            self.heard.append(time.monotonic())
            self._take(body)
            return ok(
                {
                    "next_report": len(self.reports), "next_log": self.next_log, "directive": self.directive,
                    "directive_detail": self.detail, "lease_seconds": self.lease_seconds,
                }
            )  # fmt: skip

    def _take(self, body: dict[str, Any]) -> None:
        for report in body["reports"]:
            if report["sequence"] == len(self.reports):
                self.reports.append(report)
            elif report["sequence"] < len(self.reports):
                self.repeated += 1
        for line in body["logs"]:
            if line["offset"] == self.next_log.get(line["stream"], 0):
                self.text[line["stream"]] = self.text.get(line["stream"], "") + line["text"] + "\n"
                self.next_log[line["stream"]] = line["end"]
        if "metrics" in body:
            self.samples.append(body["metrics"])

    def next_attempt(self) -> None:
        """The job is another attempt's from now on."""
        with self.lock:
            self.attempt = 2


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.005)
