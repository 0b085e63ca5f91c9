"""The sending side of a connection: the queue of octets, and flow control (RFC 9113, 5.2 and 6.9).

A request whose message fits both windows and one frame goes out as one piece, and that is nearly every one.
The others wait in `_waiting`; whenever a window opens, `pump` takes them in turn, a frame each, so that one
large prompt doesn't keep the next ones from starting. The rules: flow control governs DATA only; HEADERS and
control frames never wait; `take` is the only way out; nothing here is sent twice or reordered in a stream.
"""

from __future__ import annotations

import struct

from gateway.engines.http2_frames import (
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    LARGEST,
    ProtocolError,
)
from gateway.engines.http2_stream import Stream

_FRAME = struct.Struct(">HBHL").pack  # length (2+1 octets), type and flags, stream id
_PREFIX = struct.Struct(">BL").pack  # of a gRPC message: compressed flag, length
MAX_REPLIES = 1000  # acknowledgements that may wait for the socket; a peer that wants more is flooding us


class Sender:
    """What is to be sent, in order, and how much of it may go."""

    def __init__(self) -> None:
        self.window = DEFAULT_WINDOW  # octets of DATA that the connection may still send
        self.initial_window = DEFAULT_WINDOW  # of each new stream
        self.max_frame = DEFAULT_FRAME
        self.out: list[bytes] = []  # queued; it may be empty while requests wait for a window
        self._queued = 0
        self._held = 0
        self._replies = 0
        self._waiting: dict[int, Stream] = {}

    @property
    def unsent(self) -> int:
        """Octets accepted and not yet taken: queued, or held back by flow control."""
        return self._queued + self._held

    def put(self, data: bytes) -> None:
        """Queues whole frames."""
        self.out.append(data)
        self._queued += len(data)

    def reply(self, data: bytes) -> None:
        """Queues an acknowledgement. ProtocolError when too many wait."""
        self._replies += 1
        if self._replies > MAX_REPLIES:
            raise ProtocolError(ENHANCE_YOUR_CALM, "too many frames that want an acknowledgement")
        self.put(data)

    def take(self) -> bytes:
        """All that is queued; it counts as sent."""
        data = b"".join(self.out)
        self.out.clear()
        self._queued = self._replies = 0
        return data

    def request(self, stream: Stream, block: bytes, message: bytes) -> None:
        """Opens `stream` with a header block of at most one frame and one message, and half-closes it."""
        octets = len(message)
        size = octets + 5
        headers = _FRAME(len(block) >> 8, len(block) & 255, 0x0104, stream.id)
        prefix = _PREFIX(0, octets)
        if size <= self.window and size <= self.initial_window and size <= self.max_frame:
            self.window -= size
            stream.window = self.initial_window - size
            data = _FRAME(size >> 8, size & 255, 0x0001, stream.id)
            self.put(b"".join((headers, block, data, prefix, message)))
            return
        self.put(headers + block)
        stream.window = self.initial_window
        stream.unsent = memoryview(prefix + message)
        self._held += size
        self._waiting[stream.id] = stream
        self.pump()

    def pump(self) -> None:
        """Sends what the windows allow."""
        while self.window > 0:
            ready = [stream for stream in self._waiting.values() if stream.window > 0]
            if not ready:
                return
            for stream in ready:
                if self.window > 0:
                    self._send_piece(stream)

    def _send_piece(self, stream: Stream) -> None:
        unsent = stream.unsent
        assert unsent is not None  # it is in _waiting
        size = min(len(unsent), self.window, stream.window, self.max_frame)
        last = size == len(unsent)
        self.window -= size
        stream.window -= size
        self._held -= size
        kind = bytes((DATA, END_STREAM if last else 0))
        self.put(b"".join((size.to_bytes(3, "big"), kind, stream.id.to_bytes(4, "big"), unsent[:size])))
        if last:
            stream.unsent = None
            del self._waiting[stream.id]
        else:
            stream.unsent = unsent[size:]

    def forget(self, stream: Stream) -> None:
        """The call is over: drops what it has not sent."""
        if stream.unsent is not None:
            self._held -= len(stream.unsent)
            stream.unsent = None
            del self._waiting[stream.id]

    def widen(self, octets: int) -> None:
        """WINDOW_UPDATE of the connection. ProtocolError when the window passes 2**31-1."""
        self.window += octets
        if self.window > LARGEST:
            raise ProtocolError(FLOW_CONTROL_ERROR, "the connection's window passes 2**31-1")
        self.pump()
