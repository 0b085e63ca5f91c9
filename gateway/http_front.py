"""The HTTP front: uvicorn's protocol, with the inference routes answered here by callbacks.

uvicorn keeps what it does well: parsing, keep-alive, pipelining order, shutdown. Requests to a dialect's
path get a `HotCycle` in place of uvicorn's ASGI cycle: no task, no ASGI messages. All other requests go
to Starlette as usual. The seam is private to uvicorn, so its minor version is pinned and
tests/test_http_front.py holds the parts of it that this file leans on.

Every refusal at this border is an OpenAI error: a header flood, a slow or oversized body, bytes that are
not HTTP. It takes its turn: answers to earlier requests on the connection are written first, then the
refusal, then no more. Timeouts of slow clients are checked by one sweep per second and worker, not by a
timer each.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.core.errors import BadRequest, HeadersTooLarge, Internal, PenstockError, RequestTimeout, TooLarge
from gateway.dialects.openai_wire import error_body
from gateway.dialects.registry import BY_PATH
from gateway.http_head import HeadMemory, RequestHead, remember
from gateway.http_reply import CONTINUE, HotCycle, error_head, make_request_id

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from gateway.config import LimitsConfig
    from gateway.service import Service

log = logging.getLogger("penstock.http")

# How long a refused client may go on sending before the connection is cut, so that it can read why.
LINGER_S = 2.0
# After so many requests with heads of their own, such as one trace context each, a connection learns no more of them.
_MISSES = 4


class HttpFront:
    """What all connections of a worker share, and the sweep over them."""

    def __init__(self, service: Service, limits: LimitsConfig) -> None:
        self.service = service
        self.limits = limits
        self.connections: set[FrontProtocol] = set()
        self._unflushed: list[HotCycle] = []

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> FrontProtocol:
        """uvicorn's protocol factory."""
        return FrontProtocol(self, config, server_state, app_state, _loop)

    def flush_soon(self, cycle: HotCycle) -> None:
        """Write what the cycle holds at the end of this turn of the loop, with all others that hold something."""
        if not self._unflushed:
            self.service.loop.call_soon(self._flush)
        self._unflushed.append(cycle)

    def _flush(self) -> None:
        cycles, self._unflushed = self._unflushed, []
        for cycle in cycles:
            cycle.flush()

    def sweep(self, now: float) -> None:
        """Act on connections whose time is up. `now` is the loop's time in seconds."""
        for connection in [c for c in self.connections if c.expires is not None and c.expires <= now]:
            connection.time_out()


class FrontProtocol(HttpToolsProtocol):
    """One client connection. `expires` is the loop time by which the client must have sent what it owes."""

    def __init__(
        self,
        front: HttpFront,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.front = front
        self.expires: float | None = None
        self.hot: deque[HotCycle] = deque()
        self._header_bytes = 0
        self._most_header_bytes = front.limits.header_bytes
        self._incoming = 0  # size of the piece that is being parsed
        self._unread = 0  # bytes since the headers began that the parser may still hold to itself
        self._reading_headers = True
        self._upgrading = False
        self._memory: HeadMemory | None = None  # of a request before
        self._misses = 0  # requests in a row that the memory did not know
        self._heard: RequestHead | None = None  # of the last hot request that ended in the piece being parsed
        self._idle = True  # between two requests, with no answer under way; `expires` is when that ends
        self._receiving: Any = None  # the cycle whose body is not complete
        self._unanswered = 0
        self._refused = False
        self._refusal: PenstockError | None = None  # waits for its turn

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer: socket.socket | None = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.front.connections.add(self)
        self.expires = self.loop.time() + self.front.limits.header_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        self.front.connections.discard(self)
        for cycle in self.hot:
            cycle.abandon()
        self.hot.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # lingering: read and drop
        whole = self._idle
        if whole:
            if self._memory is not None and self._recall(self._memory, data):
                return
            self._idle = False
            self.expires = None
        if self.expires is None and self._reading_headers:
            self.expires = self.loop.time() + self.front.limits.header_timeout_s
        try:
            self._feed(data)
            if whole and self._heard is not None and self._misses < _MISSES:
                self._learn(self._heard, data)
        except httptools.HttpParserError as error:
            # What a callback of ours raised arrives wrapped, as the context of the parser's own error.
            cause = error.__context__
            if isinstance(cause, PenstockError):
                self.refuse(cause)
            elif cause is None:
                self.refuse(BadRequest("The request is not valid HTTP/1.1.", code="invalid_http"))
            else:
                log.error("a defect while reading a request", exc_info=cause)
                self.refuse(Internal("Internal error of the gateway; its log has the details."))

    def _recall(self, memory: HeadMemory, data: bytes) -> bool:
        """Take `data` as a whole request whose head is known; False where the parser must see it."""
        body = memory.body_of(data)
        if body is None or len(body) > self.front.limits.body_bytes:
            self._misses += 1
            return False
        self._misses = 0
        self._idle = False
        self.expires = None
        self.headers = memory.head.headers
        cycle = self._begin(memory.head)
        cycle.may_start = cycle.body_complete = True
        cycle.add_body(body)
        cycle.run()
        return True

    def _learn(self, head: RequestHead, data: bytes) -> None:
        memory = remember(head, data)
        self._memory = memory if memory is not None and memory.body_of(data) is not None else None

    def _feed(self, data: bytes) -> None:
        self._heard = None  # what an earlier piece ended must not pass for what this one holds
        self._incoming = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # No upgrade is offered: the request is read again as the plain one that it also is. Java's own client
            # offers h2c with every request, and the parser would take the body for the other protocol's bytes.
            self._upgrading = False
            self._feed(self._head_without_upgrade() + data[upgrade.args[0] :])
            return
        if self._reading_headers:
            # httptools tells of a header when it is complete: one without an end is counted here.
            self._unread += len(data)
            if self._unread > self.front.limits.header_bytes:
                self.refuse(self._headers_too_large())

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def time_out(self) -> None:
        """The client owed bytes and did not send them in time."""
        if self.flow.read_paused:  # it may have: it is we who do not read, until an earlier answer is complete
            self.expires = self.loop.time() + self.front.limits.body_timeout_s
            return
        self.expires = None
        if self._refused or (self._reading_headers and not self._header_bytes):
            if not self._unanswered:  # else it was only an empty line that came during an answer
                self.transport.close()  # a lingering or an idle connection: nobody waits for an answer
        else:
            what = "headers" if self._reading_headers else "body"
            self.refuse(RequestTimeout(f"The request's {what} did not arrive in time.", code="request_timeout"))

    def refuse(self, error: PenstockError) -> None:
        """Take no more requests; when earlier ones are answered, answer with an error and close."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.expires = None
        cycle, self._receiving = self._receiving, None
        if cycle is not None:
            if cycle.response_complete or getattr(cycle, "response_started", False):
                self.transport.close()  # Starlette has answered without waiting for the body
                return
            self._withdraw(cycle, error)
        if type(cycle) is not HotCycle:
            self.front.service.stats.refuse_http(error.code or type(error).__name__)
        self.flow.resume_reading()
        self._refusal = error
        self._say_refusal()

    def _withdraw(self, cycle: Any, error: PenstockError) -> None:
        # The request at fault gets the refusal in place of an answer of its own.
        self._unanswered -= 1
        cycle.disconnected = True
        cycle.message_event.set()
        if type(cycle) is HotCycle:
            self.front.service.refused(error, cycle.origin())
            self.hot.remove(cycle)
        for queued in [one for one in self.pipeline if one[0] is cycle]:
            self.pipeline.remove(queued)

    def _say_refusal(self) -> None:
        error = self._refusal
        if error is None or self._unanswered or self.transport.is_closing():
            return
        self._refusal = None
        body = error_body(error)
        asked = next((value.decode("latin-1") for name, value in self.headers or () if name == b"x-request-id"), None)
        request_id = make_request_id(self.front.service.next_id, asked)
        self.transport.write(error_head(error, request_id, len(body), keep_alive=False, more=b"") + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.expires = self.loop.time() + LINGER_S

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._header_bytes = 0
        if self._idle:  # by an answer that was complete at once, before the rest of the piece was read
            self._idle = False
            self.expires = None
        self._unread = -self._incoming
        self._reading_headers = True

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._header_bytes += len(url)
        if self._header_bytes > self._most_header_bytes:
            raise self._headers_too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Not by super(): ten headers a request made it the dearest of all calls.
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self._most_header_bytes:
            raise self._headers_too_large()
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def _headers_too_large(self) -> HeadersTooLarge:
        limit = self.front.limits.header_bytes
        return HeadersTooLarge(f"The request's URL and headers are over {limit} bytes; send less.")

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._check_target()  # of CONNECT, which asks for nothing that could be answered plainly
            self._upgrading = True
            return
        self._reading_headers = self._idle = False
        self.expires = None
        path = self.url.partition(b"?")[0]
        dialect = BY_PATH.get(path)
        if dialect is None:
            # The same target, written another way: absolute, or with needless escapes.
            dialect = BY_PATH.get(unquote_to_bytes(self._check_target()))
        if dialect is None or self.parser.get_method() != b"POST":
            self._hand_over()
            self._receiving = self.cycle
            self._unanswered += 1
            return
        self.expires = self.loop.time() + self.front.limits.body_timeout_s
        earlier: Any = self.cycle
        version = self.parser.get_http_version()
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        cycle = self._begin(RequestHead(dialect, self.headers, keep_alive=keep_alive, chunked=version != "1.0"))
        self._receiving = cycle
        self._check_length(cycle)  # here, where the cycle is known: its refusal is recorded
        if earlier is not None and not earlier.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]
        else:
            cycle.may_start = True
            self._continue(cycle)

    def _begin(self, head: RequestHead) -> HotCycle:
        cycle = HotCycle(self, head)
        self.cycle = cycle  # type: ignore[assignment]
        self.hot.append(cycle)
        self._unanswered += 1
        return cycle

    def _hand_over(self) -> None:
        # To uvicorn, with the scope that its own on_message_begin makes; hot requests have none.
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list that the scope holds
        super().on_headers_complete()

    def _continue(self, cycle: HotCycle) -> None:
        if cycle.waiting_for_100_continue and not cycle.body_complete:
            self.transport.write(CONTINUE)
        cycle.waiting_for_100_continue = False

    def _check_target(self) -> bytes:
        # uvicorn parses the target itself and lets its errors escape into the event loop.
        try:
            path: bytes | None = httptools.parse_url(self.url).path
            if path is None:
                raise BadRequest("The request target has no path.", code="invalid_http")
            path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            raise BadRequest("The request target is not a valid URL.", code="invalid_http") from None
        return path

    def _check_length(self, cycle: HotCycle) -> None:
        declared = cycle.head.header("content-length")
        if declared is not None and declared.isdigit() and int(declared) > self.front.limits.body_bytes:
            raise self._too_large(int(declared))

    def _too_large(self, size: int) -> TooLarge:
        limit = self.front.limits.body_bytes
        return TooLarge(f"The request body is {size} bytes or more; at most {limit} are taken (limits.body_bytes).")

    def on_body(self, body: bytes) -> None:
        cycle: Any = self.cycle
        if type(cycle) is not HotCycle:
            super().on_body(body)
            return
        size = cycle.add_body(body)
        if size > self.front.limits.body_bytes:
            raise self._too_large(size)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        cycle: Any = self.cycle
        self._receiving = None
        self._reading_headers = True
        self._header_bytes = 0
        self._unread = -self._incoming
        self.expires = None
        if type(cycle) is not HotCycle:
            super().on_message_complete()
            return
        cycle.body_complete = True
        self._heard = cycle.head
        if cycle.may_start:
            cycle.run()

    # The order of answers

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if type(cycle) is HotCycle:  # a pipelined request whose turn has come
            cycle.may_start = True
            if cycle.body_complete:
                cycle.run()
            else:
                self._continue(cycle)
                self.expires = self.loop.time() + self.front.limits.body_timeout_s
        else:
            super()._start_asgi_task(cycle, app)

    def hot_complete(self, cycle: HotCycle) -> None:
        """A hot answer is written whole."""
        self.hot.remove(cycle)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        # As uvicorn's, but that the time of an idle connection is kept by the sweep, too.
        self._unanswered -= 1
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.expires is None:
            self._idle = True
            self.expires = self.loop.time() + self.front.limits.idle_timeout_s
        if self._refusal is not None:
            self._say_refusal()
