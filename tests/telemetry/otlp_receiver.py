"""A real OTLP/HTTP receiver: takes what exporters send to /v1/traces, protobuf or JSON, and remembers the spans.

Ours send protobuf, Triton's (OpenTelemetry for C++) JSON, in which ids are hex and not base64.

    with Receiver() as receiver:
        export_to(receiver.url)
        spans = receiver.wait_for(3)
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

WAIT_S = 60.0


@dataclass(frozen=True)
class Span:
    """One span as it arrived. Ids are hex, `parent` is "" at a root; times are Unix nanoseconds."""

    service: str
    scope: str
    name: str
    trace: str
    span: str
    parent: str
    kind: int
    start: int
    end: int
    status: int
    message: str
    state: str
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[tuple[str, int], ...] = ()


class Receiver:
    """Listens on a free port of 127.0.0.1. `url` is the base that exporters are given.

    Attributes:
        refuse: statuses to answer the next requests with, first one first; 200 when empty.
        refused: how many requests were answered with one of them.
    """

    def __init__(self) -> None:
        self.refuse: list[int] = []
        self.refused = 0
        self._spans: list[Span] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status = receiver.take(self.path, self.headers.get("content-type", ""), body)
                answer = ExportTraceServiceResponse().SerializeToString() if status == 200 else b"no"
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, content_type: str, body: bytes) -> int:
        """What one request brought; the status of its answer."""
        with self._changed:
            if self.refuse:
                self.refused += 1
                self._changed.notify_all()
                return self.refuse.pop(0)
            if path != "/v1/traces" or content_type not in _READERS:
                return 404
            self._spans += spans_of(_READERS[content_type](body))
            self._changed.notify_all()
        return 200

    @property
    def spans(self) -> list[Span]:
        """All that came so far, in order of arrival."""
        with self._changed:
            return list(self._spans)

    def until(self, true: Callable[[list[Span]], bool], what: str) -> list[Span]:
        """Wait until something is true of the spans; fails after a minute."""
        with self._changed:
            if not self._changed.wait_for(lambda: true(self._spans), WAIT_S):
                raise AssertionError(f"not within {WAIT_S} s: {what}; have {[one.name for one in self._spans]}")
            return list(self._spans)

    def wait_for(self, count: int) -> list[Span]:
        """Wait until `count` spans have come."""
        return self.until(lambda spans: len(spans) >= count, f"{count} spans")

    def wait_refused(self, count: int) -> None:
        """Wait until `count` requests were refused."""
        self.until(lambda _: self.refused >= count, f"{count} refusals")


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """The spans of one export, in order."""
    found = []
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for one in scope.spans:
                found.append(
                    Span(
                        service=service,
                        scope=scope.scope.name,
                        name=one.name,
                        trace=one.trace_id.hex(),
                        span=one.span_id.hex(),
                        parent=one.parent_span_id.hex(),
                        kind=one.kind,
                        start=one.start_time_unix_nano,
                        end=one.end_time_unix_nano,
                        status=one.status.code,
                        message=one.status.message,
                        state=one.trace_state,
                        attributes=_attributes(one.attributes),
                        events=tuple((event.name, event.time_unix_nano) for event in one.events),
                    )
                )
    return found


def _from_json(body: bytes) -> ExportTraceServiceRequest:
    document = json.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    span[key] = base64.b64encode(bytes.fromhex(span.get(key, ""))).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True)


_READERS: dict[str, Callable[[bytes], ExportTraceServiceRequest]] = {
    "application/x-protobuf": ExportTraceServiceRequest.FromString,
    "application/json": _from_json,
}


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def tree(spans: list[Span], root: str) -> str:
    """The spans under the span id `root` as an indented text, children in order of their start."""
    lines: list[str] = []

    def add(parent: str, depth: int) -> None:
        for one in sorted((s for s in spans if s.parent == parent), key=lambda s: s.start):
            took = (one.end - one.start) / 1e6
            lines.append(f"{'  ' * depth}{one.service}: {one.name}  {took:.2f} ms")
            add(one.span, depth + 1)

    add(root, 0)
    return "\n".join(lines)
