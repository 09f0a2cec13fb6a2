"""Traces for OpenTelemetry: of requests, of scheduling decisions, of attempts. Nothing is traced unless the environment says where to.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 steep serve ...

needs the extra `otel`, which nothing else imports. All other variables of OpenTelemetry (sampling, headers, the service's name)
hold as its documentation says. Spans carry `steep.job.id` and `steep.attempt` where they concern one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from steep import __version__
from steep.spec.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as TheirSpan

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
JOB, ATTEMPT = "steep.job.id", "steep.attempt"

Value = str | int | float | bool
Attributes = Mapping[str, Value]


class Span(Protocol):
    """Something that is going on."""

    def tell(self, attributes: Attributes, *, name: str | None = None) -> None:
        """Add what is known of it now; and its name, where that is known only now."""


class Traces(Protocol):
    """Where spans go."""

    def span(self, name: str, attributes: Attributes, parent: Mapping[str, str]) -> AbstractContextManager[Span]:
        """What happens in the block; within another block, a part of what happens there.

        Args:
            name: of the span.
            attributes: what is known of it.
            parent: headers of a request, which may say what it is a part of; empty: nothing else.
        """

    def past(self, name: str, began_at: float, ended_at: float, attributes: Attributes) -> None:
        """What happened between two times, in seconds since the epoch."""

    def close(self) -> None:
        """Send what is still to be sent."""


class NoTraces:
    """Traces nothing. Satisfies `Traces` and `Span`."""

    @contextmanager
    def span(self, name: str, attributes: Attributes, parent: Mapping[str, str]) -> Iterator[NoTraces]:
        """See `Traces.span`."""
        yield self

    def tell(self, attributes: Attributes, *, name: str | None = None) -> None:
        """See `Span.tell`."""

    def past(self, name: str, began_at: float, ended_at: float, attributes: Attributes) -> None:
        """See `Traces.past`."""

    def close(self) -> None:
        """See `Traces.close`."""


class SentTraces:
    """Sends spans to a collector, in the background. Satisfies `Traces`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("steep", __version__)

    @contextmanager
    def span(self, name: str, attributes: Attributes, parent: Mapping[str, str]) -> Iterator[Span]:
        """See `Traces.span`."""
        from opentelemetry.propagate import extract

        context = extract(dict(parent)) if parent else None
        with self._tracer.start_as_current_span(name, context, attributes=dict(attributes)) as span:
            yield _SentSpan(span)

    def past(self, name: str, began_at: float, ended_at: float, attributes: Attributes) -> None:
        """See `Traces.past`."""
        from opentelemetry.context import Context

        span = self._tracer.start_span(name, Context(), attributes=dict(attributes), start_time=_nanoseconds(began_at))
        span.end(_nanoseconds(max(began_at, ended_at)))

    def close(self) -> None:
        """See `Traces.close`."""
        self._provider.shutdown()


class _SentSpan:
    def __init__(self, span: TheirSpan) -> None:
        self._span = span

    def tell(self, attributes: Attributes, *, name: str | None = None) -> None:
        self._span.set_attributes(dict(attributes))
        if name is not None:
            self._span.update_name(name)


def open_traces(environment: Mapping[str, str]) -> Traces:
    """Where spans go, as the environment says.

    Raises:
        InvalidInput: it names a collector, and the extra `otel` is not installed.
    """
    endpoint = next((name for name in ENDPOINTS if environment.get(name)), None)
    if endpoint is None or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InvalidInput(
            f"traces cannot be sent ({error})", where=endpoint, cure="Install the extra `otel`, or unset the variable."
        ) from error
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "steep"}
    provider = TracerProvider(resource=Resource.create({"service.version": __version__, **named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return SentTraces(provider)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
