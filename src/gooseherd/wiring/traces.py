"""Whether there is a collector for traces, by OpenTelemetry's own variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

from gooseherd.domain.errors import Misconfigured

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def wants_traces(environ: Mapping[str, str]) -> bool:
    """An endpoint is named, or the exporter is; and the SDK is not disabled."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    return exporter == "otlp" or any(environ.get(name) for name in _ENDPOINTS)


def traced(environ: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[None]:
    """Traces are recorded for as long as the block lasts, if the environment asks for it.

    Raises:
        Misconfigured: it does, and OpenTelemetry is not installed.
    """
    if not wants_traces(os.environ if environ is None else environ):
        return nullcontext()
    try:
        from gooseherd.wiring.opentelemetry import recording
    except ImportError:
        raise Misconfigured(
            _ENDPOINTS[1], "traces need the extra `otel`: pip install 'gooseherd[otel]'"
        ) from None
    return recording()
