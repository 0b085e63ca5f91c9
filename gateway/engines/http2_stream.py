"""One call as a connection sees it: whom to tell, what of a message has come, what of the request is unsent.

`deliver` is the trick of the hot path. It is the receiver's `on_message` exactly while a whole message may
arrive in one frame: the response headers were read and no message is cut off in the middle. At any other
time it is None, so that one look tells the frame loop whether it may take the short way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.engines.http2_frames import LARGEST
from gateway.engines.http2_status import INTERNAL, RESOURCE_EXHAUSTED, Ending

RECEIVE_WINDOW = 16 << 20  # octets that a peer may send on one stream before we give it credit
_REFILL_AT = RECEIVE_WINDOW // 2


class Receiver(Protocol):
    """One gRPC call's ears; called synchronously from `Connection.receive`. Must not block; what it raises
    is logged and ends its own call with 13 INTERNAL, no other."""

    def on_message(self, message: bytes) -> None:
        """One whole gRPC message, its prefix stripped."""

    def on_close(self, status: int, detail: str) -> None:
        """Exactly once and last, unless the call was cancelled: gRPC status code and decoded grpc-message."""


class Stream:
    """The state of one call."""

    __slots__ = ("answered", "credit", "deliver", "id", "part", "receiver", "unsent", "window")

    def __init__(self, stream_id: int, receiver: Receiver) -> None:
        self.id = stream_id
        self.receiver = receiver
        self.answered = False  # the response headers were read
        self.deliver: Callable[[bytes], None] | None = None
        self.part = bytearray()  # an incomplete message with its prefix
        self.credit = _REFILL_AT  # octets that we still take before a WINDOW_UPDATE
        self.window = 0  # octets that the peer still takes; may be negative (RFC 9113, 6.9.2)
        self.unsent: memoryview | None = None  # of the request; None once END_STREAM is out

    def begin_messages(self) -> None:
        """The response headers have come."""
        self.answered = True
        self.deliver = self.receiver.on_message

    def refill(self) -> int:
        """The octets to give back with a WINDOW_UPDATE; call it when `credit` is below zero."""
        octets = _REFILL_AT - self.credit
        self.credit = _REFILL_AT
        return octets

    def widen(self, octets: int) -> bool:
        """Adds to the send window (or takes away); False if that passes the limit of 2**31-1."""
        self.window += octets
        return self.window <= LARGEST

    def feed(self, data: bytes, max_message: int, live: Callable[[int], bool]) -> Ending | None:
        """Takes the payload of a DATA frame of any shape and delivers the messages that it completes.

        Stops when a delivery ended the call (`live` says so). Returns why the call can't go on, or None.
        """
        part, position, failure = self.part, 0, None
        part += data
        self.deliver = None
        while len(part) - position >= 5:
            size = int.from_bytes(part[position + 1 : position + 5], "big")
            if part[position]:
                failure = Ending(INTERNAL, "a compressed message, though no compression was offered")
                break
            if size > max_message:
                failure = Ending(RESOURCE_EXHAUSTED, f"a message of {size} octets; the limit is {max_message}")
                break
            end = position + 5 + size
            if len(part) < end:
                break
            with memoryview(part) as view:
                message = bytes(view[position + 5 : end])
            position = end
            self.receiver.on_message(message)
            if not live(self.id):
                return None
        del part[:position]
        if not part:
            self.deliver = self.receiver.on_message
        return failure
