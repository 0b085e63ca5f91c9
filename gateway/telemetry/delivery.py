"""One batch of spans to an OTLP/HTTP receiver, by the OpenTelemetry SDK, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway import __version__
from gateway.telemetry import names
from gateway.telemetry.spans import SpanData

Result = Literal["taken", "refused", "later"]
"""refused: it will never be taken. later: nobody answered, or the receiver is busy."""

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_FLAGS = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(names.SCOPE, __version__)
_LATER = (408, 429, 502, 503, 504)
_TIMEOUT_S = 10.0


class Delivery:
    """A receiver at `otlp`, the base of its URL. For one thread; `stop` may come from another.

    Headers (for a receiver that wants a token), certificates and compression are taken from OpenTelemetry's own
    environment variables, OTEL_EXPORTER_OTLP_HEADERS and so on.
    """

    def __init__(self, otlp: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        parts = urlsplit(otlp)
        self.where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self.answer = ""
        """What came of the last try, in words."""
        self._resource = Resource.create({"service.name": names.SERVICE, "service.version": __version__})
        self._session = _Session()
        # The SDK's own words come once for each try; ours, once for each outage.
        logging.getLogger(OTLPSpanExporter.__module__).setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(f"{otlp.rstrip('/')}/v1/traces", timeout=timeout_s, session=self._session)

    def send(self, spans: Sequence[SpanData]) -> Result:
        """Blocks for up to the timeout."""
        taken = self._exporter.export([readable(span, self._resource) for span in spans])
        heard = self._session.take()
        self.answer = f"status {heard}" if heard else "no answer" if heard is not None else "they can't be sent"
        if taken is SpanExportResult.SUCCESS:
            return "taken"
        return "later" if heard == 0 or heard in _LATER else "refused"

    def stop(self) -> None:
        """A `send` under way ends soon, a later one at once."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Session(requests.Session):
    # The SDK tells only whether it went well, and not why not. `take` gives the status of the last answer, 0 where none
    # came, None where nothing was sent.
    _heard: int | None = None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        self._heard = 0
        response = super().send(request, **options)
        self._heard = response.status_code
        return response

    def take(self) -> int | None:
        heard, self._heard = self._heard, None
        return heard


def readable(span: SpanData, resource: Resource) -> ReadableSpan:
    """The SDK's form of a span."""
    state = TraceState.from_header([span.state]) if span.state else None
    context = _context(span.trace, span.span, state, remote=False)
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=_context(span.trace, span.parent, state, remote=span.remote) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        events=[Event(name, timestamp=moment) for name, moment in span.events],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error or None),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=_SCOPE,
    )


def _context(trace: str, span: str, state: TraceState | None, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), remote, _FLAGS, state)
