"""HTTP/2 for gRPC, client side, without I/O: octets in, callbacks and octets out.

Why not a library: between the gateway's front and Triton every token is one DATA frame, and the loop below
handles one in about a microsecond; grpcio's asyncio face takes twenty to thirty. It speaks what gRPC over
plain text needs (RFC 9113 and PROTOCOL-HTTP2.md of gRPC) with one request message a call, and nothing more:
no push, no priorities, no compression, no TLS.

The rules:

- No socket, no clock, no asyncio. `receive` takes what came; `data_to_send` gives what is to go.
- `receive` raises nothing, whatever the octets. A breach of the protocol ends the connection: GOAWAY is
  queued, `closed` is set and each call ends, with 14 UNAVAILABLE if the replica had not answered it yet
  and with 13 INTERNAL if it had. A breach within one stream ends that call only.
- Receivers are called from within `receive`, `fail` and `close`, in the order of the octets. They may open
  and cancel calls, this one too. Each call hears `on_close` once, or nothing more after `cancel`.
- Everything read is handed on at once, so credit is given back as octets come and only incomplete messages
  stay here: at most `max_message` octets a call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from gateway.engines import http2_frames as wire
from gateway.engines import http2_status as grpc
from gateway.engines.http2_calls import Calls
from gateway.engines.http2_frames import DEFAULT_FRAME, LARGEST, ProtocolError
from gateway.engines.http2_headers import (
    MAX_HEADER_LIST,
    HeaderReader,
    Method,
    extra_fields,
    pseudo_headers,
)
from gateway.engines.http2_sender import Sender
from gateway.engines.http2_status import Ending
from gateway.engines.http2_stream import RECEIVE_WINDOW, Receiver, Stream

__all__ = ["Connection", "ConnectionUnusable", "Method", "Receiver"]

CONNECTION_WINDOW = 64 << 20  # octets that a peer may send on all streams before we give it credit
_REFILL_AT = CONNECTION_WINDOW // 2
_MAX_CONTINUATIONS = 32
_MAX_PINGS = 16
_HEAD = struct.Struct(">HBHL").unpack_from  # length (2+1 octets), type and flags, stream id
_MESSAGE = struct.Struct(">HBHLBL").unpack_from  # the same, then of a gRPC message: compressed flag, length
_HEADERS_WHOLE = wire.HEADERS << 8 | wire.END_HEADERS | wire.END_STREAM
_NO_HTTP2 = "no HTTP/2 here: the first frame is not SETTINGS"
_SETTINGS = {
    wire.HEADER_TABLE_SIZE: 0,
    wire.ENABLE_PUSH: 0,
    wire.INITIAL_WINDOW_SIZE: RECEIVE_WINDOW,
    wire.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
}


class ConnectionUnusable(Exception):
    """No call can be opened: closed, draining, or at the peer's stream limit."""


class Connection:
    """One HTTP/2 connection to a gRPC server. `authority` is the host:port that requests name."""

    def __init__(self, authority: bytes, *, max_message: int = 64 << 20) -> None:
        self._pseudo_headers = pseudo_headers(authority)
        self._short_frame = min(DEFAULT_FRAME, max_message + 5)
        self._sender = Sender()
        self._calls = Calls(self._sender, max_message)
        self._headers = HeaderReader()
        self._rest = b""
        self._received = 0  # octets of DATA since the last WINDOW_UPDATE of the connection
        self._block: bytearray | None = None  # a header block that wants CONTINUATION
        self._block_of = (0, 0)  # its stream id and flags
        self._continuations = 0
        self._pings: dict[bytes, None] = {}
        self._pinged = 0
        self._error = ""
        # For others to read: properties would cost the link more than the reading is worth.
        self.greeted = False
        """The peer's SETTINGS have come: it does speak HTTP/2."""
        self.draining = False
        """Calls in flight go on, but none can be opened: the peer sent GOAWAY, or stream ids are used up."""
        self.closed = False
        self.to_send = self._sender.out
        """The frames that are queued: empty where `data_to_send` would return nothing."""

    def __repr__(self) -> str:
        opening = "open" if self.greeted else "new"
        state = "closed" if self.closed else "draining" if self.draining else opening
        return f"<Connection {state} in_flight={self.in_flight} unsent={self.unsent} {self._error!r}>"

    # ------------------------------------------------------------------ what a caller may see

    @property
    def in_flight(self) -> int:
        return len(self._calls.streams)

    def is_open(self, stream_id: int) -> bool:
        """The call has not ended."""
        return stream_id in self._calls.streams

    @property
    def available(self) -> bool:
        """`open` would not raise ConnectionUnusable."""
        calls = self._calls
        return len(calls.streams) < calls.limit and not self.closed and not self.draining

    @property
    def saturated(self) -> bool:
        """Not available for one reason only: the peer's MAX_CONCURRENT_STREAMS."""
        return self._calls.full and not (self.closed or self.draining)

    @property
    def pings(self) -> int:
        """PINGs sent and not yet answered."""
        return len(self._pings)

    @property
    def unsent(self) -> int:
        """Octets that calls gave and `data_to_send` has not yet taken."""
        return self._sender.unsent

    @property
    def error(self) -> str:
        """Why the connection is closed or draining, in words; empty if it is neither."""
        return self._error

    # ------------------------------------------------------------------ what a caller may do

    def initiate(self) -> None:
        """Queues the preface and our SETTINGS. Once, before anything else."""
        credit = wire.window_update(0, CONNECTION_WINDOW - wire.DEFAULT_WINDOW)
        self._sender.put(wire.PREFACE + wire.settings(_SETTINGS) + credit)

    def open(
        self,
        method: Method,
        message: bytes,
        receiver: Receiver,
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Queues a call with its one request message and returns its stream id.

        `timeout` (seconds) is told to the peer, not kept here: there is no clock. Raises ConnectionUnusable,
        and ValueError for metadata that gRPC doesn't allow.
        """
        if not self.available:
            raise ConnectionUnusable(self._error or "at the replica's limit of concurrent streams")
        block = self._pseudo_headers + method.block
        if timeout is not None or metadata:
            block += extra_fields(timeout, metadata)
        stream_id = self._calls.begin(block, message, receiver)
        if stream_id >= LARGEST:
            self.draining, self._error = True, "out of stream ids"
        return stream_id

    def cancel(self, stream_id: int) -> None:
        """Ends a call with RST_STREAM(CANCEL) and without a word to its receiver. Unknown ids are ignored."""
        self._calls.cancel(stream_id)

    def expire(self, stream_id: int) -> None:
        """Like `cancel`, but the receiver hears 4 DEADLINE_EXCEEDED."""
        stream = self._calls.streams.get(stream_id)
        if stream is not None:
            detail = "the replica did not end the call by its deadline"
            self._calls.abort(stream, wire.CANCEL, grpc.DEADLINE_EXCEEDED, detail)

    def ping(self) -> None:
        """Queues a PING. At most 16 wait for their answers; more are not sent."""
        if len(self._pings) < _MAX_PINGS and not self.closed:
            self._pinged += 1
            payload = self._pinged.to_bytes(8, "big")
            self._pings[payload] = None
            self._sender.put(wire.ping(payload))

    def data_to_send(self) -> bytes:
        """Takes what is queued."""
        return self._sender.take()

    def fail(self, status: int, detail: str) -> None:
        """The transport is lost: ends every call with `status`."""
        self._error = self._error or detail
        self._end_all(lambda _: Ending(status, detail))

    def close(self, status: int, detail: str) -> None:
        """Leaves in good order: RST_STREAM for each call, then GOAWAY; the receivers hear `status`."""
        if self.closed:
            return
        for stream_id in self._calls.streams:
            self._sender.put(wire.rst_stream(stream_id, wire.CANCEL))
        self._sender.put(wire.goaway(0, wire.NO_ERROR, detail))
        self.fail(status, detail)

    # ------------------------------------------------------------------ octets in

    def receive(self, data: bytes) -> None:
        """Takes what the transport read, of any length, and calls the receivers."""
        over = self.closed
        if over:
            return
        buf = self._rest + data if self._rest else data
        position, length = 0, len(buf)
        find, longest = self._calls.streams.get, self._short_frame
        received = 0
        plain = self.greeted and self._block is None
        try:
            while True:
                while plain and length - position >= 14:
                    # The short way: DATA without flags, nearly always one whole message.
                    high, low, kind, stream_id, packed, octets = _MESSAGE(buf, position)
                    size = high << 8 | low
                    start, end = position + 14, position + 9 + size
                    if kind or packed or size != octets + 5 or size > longest or end > length:
                        break
                    stream = find(stream_id)
                    if stream is None or (deliver := stream.deliver) is None:
                        break
                    position = end
                    received += size
                    stream.credit -= size
                    if stream.credit < 0:
                        self._sender.put(wire.window_update(stream_id, stream.refill()))
                    try:
                        deliver(buf[start:end])
                    except Exception as error:
                        self._calls.receiver_failed(stream, error)
                if length - position < 9:
                    break
                high, low, kind, stream_id = _HEAD(buf, position)
                size = high << 8 | low
                start = position + 9
                end = start + size
                if size > DEFAULT_FRAME:
                    raise self._oversized(size)
                if end > length:
                    break
                position = end
                if kind | wire.END_STREAM == _HEADERS_WHOLE and plain:
                    self._header_block(kind & 255, stream_id & LARGEST, buf[start:end])
                else:
                    self._frame(kind >> 8, kind & 255, stream_id & LARGEST, buf[start:end])
                plain = self._block is None
                if self.closed:
                    return
            self._rest = buf[position:] if position < length else b""
            self._received += received
            if self._received > _REFILL_AT:
                self._sender.put(wire.window_update(0, self._received))
                self._received = 0
        except ProtocolError as error:
            if not self.closed:  # a receiver may have closed it meanwhile
                self._break(error)

    def _oversized(self, size: int) -> ProtocolError:
        if self.greeted:
            return ProtocolError(wire.FRAME_SIZE_ERROR, f"a frame of {size} octets")
        return ProtocolError(wire.PROTOCOL_ERROR, _NO_HTTP2)  # an HTTP/1.1 answer reads like this

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if not self.greeted and (kind != wire.SETTINGS or flags & wire.ACK):
            raise ProtocolError(wire.PROTOCOL_ERROR, _NO_HTTP2)
        if self._block is not None and kind != wire.CONTINUATION:
            raise ProtocolError(wire.PROTOCOL_ERROR, "a frame in the middle of a header block")
        handle = _HANDLERS.get(kind)
        if handle is not None:  # PRIORITY and unknown types are skipped
            handle(self, flags, stream_id, payload)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._received += len(payload)
        self._calls.data(flags, stream_id, payload)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & wire.PADDED:
            payload = wire.strip_padding(payload)
        if flags & wire.PRIORITISED:
            if len(payload) < 5:
                raise ProtocolError(wire.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            payload = payload[5:]
        if flags & wire.END_HEADERS:
            self._header_block(flags, stream_id, payload)
            return
        self._calls.known(stream_id)
        self._block, self._block_of, self._continuations = bytearray(payload), (stream_id, flags), 0

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or stream_id != self._block_of[0]:
            raise ProtocolError(wire.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block += payload
        self._continuations += 1
        if len(block) > MAX_HEADER_LIST or self._continuations > _MAX_CONTINUATIONS:
            raise ProtocolError(wire.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & wire.END_HEADERS:
            self._block = None
            self._header_block(self._block_of[1], stream_id, bytes(block))

    def _header_block(self, flags: int, stream_id: int, block: bytes) -> None:
        # Read also for calls that are over: it may change the decoder's table.
        self._calls.headers(flags, stream_id, self._headers.read(block))

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._calls.reset(stream_id, wire.read_u32(payload, "RST_STREAM"))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ProtocolError(wire.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & wire.ACK:
            if payload:
                raise ProtocolError(wire.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            self._headers.table_size_acknowledged()
            return
        for key, value in wire.read_settings(payload):
            if key == wire.MAX_CONCURRENT_STREAMS:
                self._calls.limit = value
            elif key == wire.MAX_FRAME_SIZE:
                self._sender.max_frame = value
            elif key == wire.INITIAL_WINDOW_SIZE:
                self._calls.move_windows(value - self._sender.initial_window)
        self.greeted = True
        self._sender.reply(wire.SETTINGS_ACK)
        self._sender.pump()

    def _on_push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ProtocolError(wire.PROTOCOL_ERROR, "PUSH_PROMISE, though push is off")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ProtocolError(wire.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ProtocolError(wire.FRAME_SIZE_ERROR, f"PING of {len(payload)} octets")
        if flags & wire.ACK:
            self._pings.pop(payload, None)
        else:
            self._sender.reply(wire.ping(payload, wire.ACK))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ProtocolError(wire.PROTOCOL_ERROR, "GOAWAY on a stream")
        last, code, text = wire.read_goaway(payload)
        self.draining = True
        self._error = f"GOAWAY {wire.error_name(code)} {text}".strip()
        detail = f"never processed by the replica: it is going away ({self._error})"
        self._calls.end_above(last, Ending(grpc.UNAVAILABLE, detail))

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        octets = wire.read_u32(payload, "WINDOW_UPDATE") & LARGEST
        if stream_id:
            self._calls.window_update(stream_id, octets)
        elif octets:
            self._sender.widen(octets)
        else:
            raise ProtocolError(wire.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")

    def _end_all(self, ending: Callable[[Stream], Ending]) -> None:
        self.closed = True
        self._rest, self._block = b"", None
        self._calls.end_all(ending)

    def _break(self, error: ProtocolError) -> None:
        self._error = f"{wire.error_name(error.code)}: {error.detail}"
        self._sender.put(wire.goaway(0, error.code, error.detail))
        detail = f"the replica broke HTTP/2 ({self._error})"
        self._end_all(lambda stream: Ending(grpc.INTERNAL if stream.answered else grpc.UNAVAILABLE, detail))


_HANDLERS: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    wire.DATA: Connection._on_data,
    wire.HEADERS: Connection._on_headers,
    wire.RST_STREAM: Connection._on_reset,
    wire.SETTINGS: Connection._on_settings,
    wire.PUSH_PROMISE: Connection._on_push,
    wire.PING: Connection._on_ping,
    wire.GOAWAY: Connection._on_goaway,
    wire.WINDOW_UPDATE: Connection._on_window_update,
    wire.CONTINUATION: Connection._on_continuation,
}
