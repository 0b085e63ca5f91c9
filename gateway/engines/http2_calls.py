"""The calls of one connection: how each begins, what its frames do to it, and how it ends.

The rules: `finish` is the one place where a receiver hears its end, and the call has left the table before
it does; a breach within a stream ends that call (`abort`), while what must end the connection is raised as
ProtocolError; frames of calls that are over are ignored, frames of calls that never were are a breach.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.engines import http2_frames as wire
from gateway.engines import http2_status as grpc
from gateway.engines.http2_frames import LARGEST, ProtocolError
from gateway.engines.http2_sender import Sender
from gateway.engines.http2_status import Answer, Ending
from gateway.engines.http2_stream import Receiver, Stream

logger = logging.getLogger(__name__)


class Calls:
    """The table of calls in flight. `streams` is read by the connection's frame loop, changed only here."""

    def __init__(self, sender: Sender, max_message: int) -> None:
        self.streams: dict[int, Stream] = {}
        self.limit = LARGEST  # the peer's MAX_CONCURRENT_STREAMS
        self.next_id = 1
        self._sender = sender
        self._max_message = max_message

    @property
    def full(self) -> bool:
        return len(self.streams) >= self.limit

    def begin(self, block: bytes, message: bytes, receiver: Receiver) -> int:
        """Opens a call, whatever `limit` says, and returns its stream id."""
        stream = Stream(self.next_id, receiver)
        self.streams[stream.id] = stream
        self.next_id += 2
        self._sender.request(stream, block, message)
        return stream.id

    def known(self, stream_id: int) -> Stream | None:
        """The call, or None if it is over. ProtocolError if it can't have been ours."""
        stream = self.streams.get(stream_id)
        if stream is None and (not stream_id & 1 or stream_id >= self.next_id):
            raise ProtocolError(wire.PROTOCOL_ERROR, f"a frame on stream {stream_id}, which was never opened")
        return stream

    # ------------------------------------------------------------------ frames

    def data(self, flags: int, stream_id: int, payload: bytes) -> None:
        """DATA of any shape. Padding counts as received, too."""
        stream, octets = self.known(stream_id), len(payload)
        if flags & wire.PADDED:
            payload = wire.strip_padding(payload)
        if stream is None:
            return
        if not stream.answered:
            self.abort(stream, wire.PROTOCOL_ERROR, grpc.INTERNAL, "data before the response headers")
            return
        self.count(stream, octets)
        try:
            failure = stream.feed(payload, self._max_message, self.streams.__contains__)
        except Exception as error:
            self.receiver_failed(stream, error)
            return
        if stream_id not in self.streams:
            return
        if failure is not None:
            self.abort(stream, wire.CANCEL, *failure)
        elif flags & wire.END_STREAM:
            self.finish(stream, Ending(grpc.INTERNAL, "the replica ended the stream without trailers"))

    def count(self, stream: Stream, octets: int) -> None:
        """Takes octets off the stream's credit and gives new credit where it is used up."""
        stream.credit -= octets
        if stream.credit < 0:
            self._sender.put(wire.window_update(stream.id, stream.refill()))

    def headers(self, flags: int, stream_id: int, answer: Answer) -> None:
        """A whole header block: response headers, trailers, or both in one."""
        stream = self.known(stream_id)
        if stream is None:
            return
        if flags & wire.END_STREAM:
            if stream.part and answer.ending.status == grpc.OK:
                self.finish(stream, Ending(grpc.INTERNAL, "the call ended in the middle of a message"))
            else:
                self.finish(stream, answer.ending)
        elif stream.answered:
            self.abort(stream, wire.PROTOCOL_ERROR, grpc.INTERNAL, "trailers that don't end the stream")
        elif answer.informational:
            return
        elif answer.refusal is not None:
            self.abort(stream, wire.CANCEL, *answer.refusal)
        else:
            stream.begin_messages()

    def reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM from the peer."""
        stream = self.known(stream_id)
        if stream is not None:
            self._sender.forget(stream)
            self.finish(stream, grpc.of_reset(code))

    def window_update(self, stream_id: int, octets: int) -> None:
        stream = self.known(stream_id)
        if stream is None:
            return
        if not octets:
            self.abort(stream, wire.PROTOCOL_ERROR, grpc.INTERNAL, "WINDOW_UPDATE of 0")
        elif not stream.widen(octets):
            self.abort(stream, wire.FLOW_CONTROL_ERROR, grpc.INTERNAL, "the stream's window passes 2**31-1")
        elif stream.unsent is not None:
            self._sender.pump()

    def move_windows(self, octets: int) -> None:
        """A changed INITIAL_WINDOW_SIZE moves the windows of all calls, below zero if need be."""
        self._sender.initial_window += octets
        if not all(stream.widen(octets) for stream in self.streams.values()):
            raise ProtocolError(wire.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE lifts a window past 2**31-1")

    # ------------------------------------------------------------------ ends

    def cancel(self, stream_id: int) -> None:
        """RST_STREAM(CANCEL), and not a word to the receiver."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._sender.forget(stream)
            self._sender.put(wire.rst_stream(stream_id, wire.CANCEL))

    def abort(self, stream: Stream, code: int, status: int, detail: str) -> None:
        """RST_STREAM(code); the receiver hears `status`."""
        self._sender.forget(stream)
        self._sender.put(wire.rst_stream(stream.id, code))
        self.finish(stream, Ending(status, detail))

    def receiver_failed(self, stream: Stream, error: Exception) -> None:
        """A receiver's bug ends its own call, not the connection."""
        logger.error("on_message of stream %d raised", stream.id, exc_info=error)
        if stream.id in self.streams:
            self.abort(stream, wire.CANCEL, grpc.INTERNAL, "the receiver of the answer failed")

    def end_above(self, last: int, ending: Ending) -> None:
        """Ends the calls that a GOAWAY left out, without RST_STREAM: the peer has forgotten them."""
        self._end([key for key in self.streams if key > last], lambda _: ending)

    def end_all(self, ending: Callable[[Stream], Ending]) -> None:
        self._end(list(self.streams), ending)

    def _end(self, stream_ids: list[int], ending: Callable[[Stream], Ending]) -> None:
        for stream_id in stream_ids:
            stream = self.streams.get(stream_id)  # one that ends may cancel another
            if stream is not None:
                self._sender.forget(stream)
                self.finish(stream, ending(stream))

    def finish(self, stream: Stream, ending: Ending) -> None:
        """The call is over, in the table first and then to its receiver."""
        del self.streams[stream.id]
        if stream.unsent is not None:  # the peer answered without reading all of the request
            self._sender.forget(stream)
            self._sender.put(wire.rst_stream(stream.id, wire.CANCEL))
        try:
            stream.receiver.on_close(ending.status, ending.detail)
        except Exception:
            logger.exception("on_close of stream %d raised", stream.id)
