"""Traces, as a collector of OpenTelemetry gets them over HTTP; and nothing of it where none is wanted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.server.serving import serving
from tests.server.test_expectations import Machine

from steep.compute.contract import Device, Order, WorkerStatus
from steep.server.loops.scheduler import Scheduler
from steep.server.loops.watcher import Watcher
from steep.server.tracing import NoTraces, open_traces

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(ThreadingHTTPServer):
    """Takes in what is sent to it, as a collector does."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        super().__init__(("127.0.0.1", 0), self._handler())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in sent.resource_spans:
                    for span in (span for scope in resource.scope_spans for span in scope.spans):
                        spans.setdefault(span.name, []).append(span)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words: object) -> None: ...

        return Handler


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


class Quick(Machine):
    """Its workers have ended when they are asked after."""

    def submit(self, order: Order) -> str:
        return f"{order.job_id}/{order.attempt}"

    def status(self, handle: str) -> WorkerStatus:
        return WorkerStatus("ended", exit_code=0)


def facts(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_a_request_a_decision_and_an_attempt_are_told_to_a_collector(
    collector: Collector, tmp_path: Path, place: Path, tiny: Callable[..., dict[str, Any]]
) -> None:
    traces = open_traces(os.environ)
    backend = Quick(Device("cpu-0", "cpu", "CPU", 1))
    with serving(tmp_path / "data", {"local": backend}, roots=(place,), traces=traces) as house:
        began = time.time()
        with house.client() as client:
            job = client.jobs.create(tiny()).id
        Scheduler(house.service).turn()
        time.sleep(0.2)
        Watcher(house.service).turn()
        with house.http(house.key()) as http:
            http.get(f"/api/v1/jobs/{job}", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
            http.get("/api/v1/jobs/none")
    spans = collector.spans  # closed with the service, which sends what is left

    (created,) = spans["POST /api/v1/jobs"]
    assert facts(created)["http.response.status_code"] == 201
    shown, missing = spans["GET /api/v1/jobs/{job}"]
    assert (facts(shown)["steep.job.id"], facts(shown)["http.response.status_code"]) == (job, 200)
    assert shown.trace_id.hex() == TRACE, "it is a part of what asked for it"
    assert facts(missing)["http.response.status_code"] == 404
    (decision,) = spans["schedule"]
    assert facts(decision) == {"steep.waiting": 1, "steep.placed": 1, "steep.preempted": 0}
    (submitted,) = spans["submit"]
    assert submitted.parent_span_id == decision.span_id
    (attempt,) = spans["attempt"]
    assert facts(attempt) == {
        "steep.job.id": job, "steep.attempt": 1, "steep.verdict": "succeed", "steep.exit_code": 0,
    }  # fmt: skip
    assert began <= attempt.start_time_unix_nano / 1e9 <= attempt.end_time_unix_nano / 1e9 - 0.2


def test_without_a_collector_nothing_is_imported() -> None:
    code = (
        "import sys, os, steep.server.main, steep.server.app, steep.server.loops.all\n"
        "from steep.server.tracing import open_traces\n"
        "open_traces({}).close()\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert isinstance(open_traces({}), NoTraces)
    disabled = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}
    assert isinstance(open_traces(disabled), NoTraces)
