"""Traces by OpenTelemetry: the only module that names it, imported when the environment names a collector.

All of OpenTelemetry's own variables hold (OTEL_EXPORTER_OTLP_…, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_TRACES_SAMPLER, OTEL_BSP_…); traces go by OTLP over HTTP.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind as OtelKind

from gooseherd import __version__, tracing
from gooseherd.blocking import in_thread
from gooseherd.domain.traceparent import span_id, trace_id
from gooseherd.tracing import SpanKind
from gooseherd.worker.settings import build_id

_FLUSH_MILLISECONDS = 3000


class _Ids(RandomIdGenerator):
    """Random ones, but where an id is given."""

    given: str | None = None

    def generate_span_id(self) -> int:
        if self.given is not None:
            return int(self.given, 16)
        return super().generate_span_id()


class _Span:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, **attributes: str | float | bool) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(name.replace("__", "."), value)

    def end(self, error: str | None = None, at: float | None = None) -> None:
        if not self._span.is_recording():
            return
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(None if at is None else _nanoseconds(at))


class OpenTelemetryTracer:
    """Gives spans to the collector that the environment names, in batches, from a thread of its own."""

    def __init__(self) -> None:
        own = {"service.version": __version__, "gooseherd.build": build_id()}
        if "OTEL_SERVICE_NAME" not in os.environ:
            own["service.name"] = "gooseherd"
        self._ids = _Ids()
        # Not by its own hook at exit: `close` is called in order, and waits for a bounded time.
        self._provider = TracerProvider(
            resource=Resource.create(own), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gooseherd", __version__)

    def start(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = SpanKind.INTERNAL,
        at: float | None = None,
        own_id: str | None = None,
    ) -> _Span:
        """As tracing.Tracer. For the event loop's thread."""
        context = None
        if parent is not None:
            above = SpanContext(
                int(trace_id(parent), 16),
                int(span_id(parent), 16),
                is_remote=True,
                trace_flags=TraceFlags(int(parent[53:55], 16)),
            )
            context = set_span_in_context(NonRecordingSpan(above))
        self._ids.given = own_id
        try:
            span = self._tracer.start_span(
                name,
                context=context,
                kind=OtelKind.SERVER if kind is SpanKind.SERVER else OtelKind.INTERNAL,
                start_time=None if at is None else _nanoseconds(at),
            )
        finally:
            self._ids.given = None
        return _Span(span)

    def close(self) -> None:
        """Send what was recorded, for a few seconds at most. Blocks."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()


@asynccontextmanager
async def recording() -> AsyncIterator[None]:
    """Spans are recorded for as long as the block lasts."""
    tracer = OpenTelemetryTracer()
    tracing.use(tracer)
    try:
        yield
    finally:
        tracing.use(None)
        await in_thread(tracer.close)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
