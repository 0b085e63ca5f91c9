"""One inference over HTTP: from a request's bytes to the answer's bytes.

A `HotCycle` takes the place of uvicorn's ASGI cycle on a connection, so it carries the attributes that
uvicorn's protocol reads (`response_complete`, `keep_alive`, `disconnected`, `message_event`). It is also
the sink that the inference talks to. Text written within one turn of the event loop leaves in one write.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import Internal, PenstockError
from gateway.core.request import Request
from gateway.dialects.base import Encoder, WholeChoice
from gateway.http_head import RequestHead
from gateway.inference import Inference
from gateway.keys import ANYONE
from gateway.service import Origin

if TYPE_CHECKING:
    from gateway.http_front import FrontProtocol

log = logging.getLogger("penstock.http")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch


def make_request_id(next_id: Callable[[], str], asked: str | None) -> str:
    """The caller's own request id where it is one, else a new one."""
    return asked if asked is not None and _REQUEST_ID(asked) else f"req-{next_id()}"


def error_head(error: PenstockError, request_id: str, size: int, *, keep_alive: bool, more: bytes) -> bytes:
    """Status line and headers of an error answer. `more` is further header lines."""
    lines = [
        STATUS_LINE[error.status],
        b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n" % (size, request_id.encode()),
        more,
    ]
    if error.retry_after is not None:
        lines.append(b"retry-after: %d\r\n" % max(1, round(error.retry_after)))
    if error.status == 401:
        lines.append(b"www-authenticate: Bearer\r\n")
    if not error.retryable and error.status >= 400:
        lines.append(b"x-should-retry: false\r\n")
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


class _Event:
    # uvicorn's protocol wakes its cycle through this when the connection is lost; ours is told directly.
    def set(self) -> None:
        pass


_EVENT = _Event()


class HotCycle:
    """One request and its answer. `may_start` is false while an earlier answer on the connection is under way."""

    __slots__ = (
        "_asked",
        "_body",
        "_encoder",
        "_inference",
        "_key",
        "_parts",
        "_pending",
        "_protocol",
        "_received",
        "_request_id",
        "_size",
        "_written",
        "body_complete",
        "disconnected",
        "head",
        "keep_alive",
        "may_start",
        "message_event",
        "response_complete",
        "waiting_for_100_continue",
    )

    def __init__(self, protocol: FrontProtocol, head: RequestHead) -> None:
        self._protocol = protocol
        self.head = head
        self._body: list[bytes] = []
        self._size = 0
        self._received = time.perf_counter()
        self._request_id = ""
        self._key = ANYONE  # until it is known who calls
        self._asked: Request | None = None
        self._encoder: Encoder | None = None
        self._inference: Inference | None = None
        self._parts: list[WholeChoice] = []
        self._pending: list[bytes] = []
        self._written = False
        self.keep_alive = head.keep_alive
        self.may_start = self.body_complete = self.response_complete = self.disconnected = False
        self.message_event = _EVENT
        self.waiting_for_100_continue = protocol.expect_100_continue

    def add_body(self, data: bytes) -> int:
        """Take a piece of the body; the size so far in bytes."""
        self._body.append(data)
        self._size += len(data)
        return self._size

    def run(self) -> None:
        """The body is complete and it is this request's turn."""
        service = self._protocol.front.service
        head = self.head
        self._request_id = make_request_id(service.next_id, head.header("x-request-id"))
        try:
            self._key = head.caller(service.keyring)
            deadline = head.deadline()
            self._asked = head.dialect.parse(b"".join(self._body))
            self._body.clear()
        except PenstockError as error:
            self._refuse(error)
            return
        except Exception:
            log.exception("request %s failed by a defect of its dialect", self._request_id)
            self._refuse(Internal("Internal error of the gateway; its log has the details under this request id."))
            return
        origin = self.origin(deadline)
        self._inference = inference = Inference(service, self._asked, origin, self)
        inference.start()

    def origin(self, deadline: float | None = None) -> Origin:
        """What the inference is told beside the request."""
        head, key = self.head, self._key
        trace = self._protocol.front.service.tracing.start(head.header("traceparent"), head.header("tracestate"))
        return Origin(self._request_id, head.header, deadline, "http", head.dialect.name, key.name, trace, key.allowed)

    def _refuse(self, error: PenstockError) -> None:
        self._protocol.front.service.refused(error, self.origin())
        self.on_error(error)

    def abandon(self) -> None:
        """The client is gone."""
        self.disconnected = True
        if self._inference is not None:
            self._inference.abandon()
            self._inference = None

    # The sink

    def on_start(self, head: Head) -> None:
        asked = self._asked
        assert asked is not None  # the inference exists, so the request was parsed
        self._encoder = self.head.dialect.encoder(asked, head)
        if asked.stream:
            self._written = True
            lines = [
                STATUS_LINE[200],
                b"content-type: text/event-stream; charset=utf-8\r\n",
                b"cache-control: no-cache\r\nx-accel-buffering: no\r\n",
                self._common_headers(head),
                b"transfer-encoding: chunked\r\n" if self.head.chunked else b"",
                b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
            ]
            self._protocol.transport.write(b"".join(lines))
            start = self._encoder.start()
            if start:
                self._send(start)
        else:
            self._parts = [WholeChoice("", "stop") for _ in range(max(1, len(asked.prompts)) * asked.n)]
            self._pending.append(self._common_headers(head))

    def on_chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        encoder = self._encoder
        if self._written and encoder is not None:
            pending = self._pending  # as `_send`, but without its call: this is every token
            if not pending:
                self._protocol.front.flush_soon(self)
            pending.append(encoder.chunk(choice, text, logprobs))
            return
        part = self._parts[choice]
        part.text += text
        part.logprobs += logprobs

    def on_finish(self, choice: int, finish: Finish) -> None:
        if self._written and self._encoder is not None:
            self._send(self._encoder.finish(choice, finish))
        else:
            self._parts[choice].finish = finish

    def on_end(self, usage: Usage) -> None:
        assert self._encoder is not None  # on_start comes first
        if self._written:
            self._close_stream(self._encoder.end(usage))
            return
        body = self._encoder.whole(self._parts, usage)
        head = (
            STATUS_LINE[200],
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            self._pending.pop(),
            b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
            body,
        )
        self._protocol.transport.write(b"".join(head))
        self._complete()

    def on_error(self, error: PenstockError) -> None:
        if self.disconnected or self.response_complete:
            return
        if self._written and self._encoder is not None:
            # Too late for a status: the stream says it, and the connection is not used again.
            self.keep_alive = False
            self._close_stream(self._encoder.error(error))
            return
        self._pending.clear()
        body = self.head.dialect.error(error)
        head = error_head(error, self._request_id, len(body), keep_alive=self.keep_alive, more=self._version_header())
        self._protocol.transport.write(head + body)
        self._complete()

    def _version_header(self) -> bytes:
        routed = self._inference.routed if self._inference is not None else None
        return b"" if routed is None else b"x-penstock-version: %b\r\n" % routed.version.label.encode()

    def _common_headers(self, head: Head) -> bytes:
        lines = [
            b"x-request-id: %b\r\nx-penstock-version: %b@%b\r\n"
            b"x-penstock-determinism: %b\r\nopenai-processing-ms: %d\r\n"
            % (
                self._request_id.encode(),
                head.endpoint.encode(),
                head.version.encode(),
                head.determinism.encode(),
                (time.perf_counter() - self._received) * 1000,
            )
        ]
        if head.seed is not None:
            lines.append(b"x-penstock-seed: %d\r\n" % head.seed)
        return b"".join(lines)

    # Writing

    def _send(self, data: bytes) -> None:
        if not self._pending:
            self._protocol.front.flush_soon(self)
        self._pending.append(data)

    def flush(self) -> None:
        """Write what is held."""
        pending = self._pending
        if not pending or self.disconnected:
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        transport = self._protocol.transport
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.head.chunked else data)
        if transport.get_write_buffer_size() > self._protocol.front.limits.client_buffer_bytes:
            log.warning("request %s: the client reads too slowly; its connection is cut", self._request_id)
            self.abandon()
            transport.abort()

    def _close_stream(self, last: bytes) -> None:
        data = b"".join([*self._pending, last])
        self._pending.clear()
        if self.head.chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        self._protocol.transport.write(data)
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self._inference = None  # it leads back here as its sink: a cycle for the collector otherwise
        self._protocol.hot_complete(self)
