"""One TCP connection of a channel: a `Connection` on an asyncio transport, and the clock that it lacks.

The rules:

- One `transport.write` a loop tick, however many calls and acknowledgements it carries.
- While the transport is paused nothing is written; what calls give meanwhile is kept, and beyond
  `MAX_UNSENT` octets the link takes no more calls.
- The timer runs only while calls are in flight. It ends calls whose deadline passed (the replica was told the
  deadline and should have done so: this is for the replica that hangs), and it probes a silent replica.
- Probing: a PING after `probe_after` seconds of silence; no answer within `probe_timeout` means that the peer
  is gone. gRPC servers answer frequent PINGs with GOAWAY "too_many_pings" and forgive them only when they
  send something themselves, so after one answered probe the same silence is probed again only after
  `probe_again` seconds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from gateway.engines.http2 import Connection, Method, Receiver
from gateway.engines.http2_status import UNAVAILABLE

MAX_UNSENT = 64 << 20  # octets
_HIGH_WATER = 1 << 20  # octets in the transport's own buffer before it pauses us
_CLOSE_GRACE = 1.0  # seconds for the last octets to leave
_QUIET, _PROBED, _ANSWERED = range(3)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, all of them."""

    connect_timeout: float = 5.0  # for name, TCP and the peer's SETTINGS together
    backoff_first: float = 0.1
    backoff_last: float = 5.0
    healthy_after: float = 1.0  # a connection that lived this long is replaced at once when it is lost
    tick: float = 1.0  # how often deadlines and silence are looked at
    probe_after: float = 20.0
    probe_timeout: float = 10.0
    probe_again: float = 300.0


class Link(asyncio.Protocol):
    """`on_over` is called once, when no more calls can be opened; `on_lost` once, when the socket is gone."""

    def __init__(
        self,
        connection: Connection,
        timing: Timing,
        clock: Callable[[], float],
        on_over: Callable[[Link], None],
        on_lost: Callable[[Link], None],
    ) -> None:
        self.connection = connection
        self._timing = timing
        self._clock = clock
        self._on_over = on_over
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines: dict[int, float] = {}
        self._scheduled = False
        self._paused = False
        self._settled = False  # greeted, and not over
        self._over = False
        self._probe = _QUIET
        self._probed_at = self._heard_at = self._next_probe = 0.0
        self.since = 0.0  # when the peer's SETTINGS came; 0 before that
        self.settled: asyncio.Future[None] = self._loop.create_future()  # greeted or lost
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def __repr__(self) -> str:
        return f"<Link {'paused ' if self._paused else ''}{self.connection!r}>"

    @property
    def established(self) -> bool:
        """Greeted, and neither draining nor closed."""
        return self._settled

    @property
    def available(self) -> bool:
        """A call may be opened now."""
        connection = self.connection
        return self._settled and connection.available and connection.unsent < MAX_UNSENT

    # ------------------------------------------------------------------ calls

    def open(
        self,
        method: Method,
        message: bytes,
        receiver: Receiver,
        timeout: float | None,
        metadata: Sequence[tuple[bytes, bytes]],
    ) -> int:
        """As `Connection.open`; `timeout` is kept here, too."""
        stream_id = self.connection.open(method, message, receiver, timeout=timeout, metadata=metadata)
        if timeout is not None:
            self._deadlines[stream_id] = self._clock() + timeout
        if self._timer is None:
            self._heard_at = self._clock()  # silence before there was anything to say is none
            self._timer = self._loop.call_later(self._timing.tick, self._tick)
        self._schedule()
        return stream_id

    def cancel(self, stream_id: int) -> None:
        self.connection.cancel(stream_id)
        self._schedule()

    def close(self, status: int, detail: str) -> None:
        """RST_STREAM for every call, GOAWAY, then the transport; `lost` tells when it is gone."""
        self.connection.close(status, detail)
        self._flush()

    def abort(self) -> None:
        """Drops the transport without a word."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        _tune(transport.get_extra_info("socket"))
        self.connection.initiate()
        self._flush()

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        connection.receive(data)
        self._heard_at = self._clock()
        if self._probe:
            self._probe_progress()
        if not self._settled or connection.closed or connection.draining:
            self._settle()
        if connection.to_send:
            self._schedule()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        reason = f"{type(exc).__name__}: {exc}" if exc is not None else "closed by the replica"
        if self.connection.draining:
            reason += f" after {self.connection.error}"
        self.connection.fail(UNAVAILABLE, f"the connection to the replica was lost ({reason})")
        if self._timer is not None:
            self._timer.cancel()
        self._settle()
        _resolve(self.lost)
        self._on_lost(self)

    # ------------------------------------------------------------------ out

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        transport, connection = self._transport, self.connection
        if transport is None or transport.is_closing():
            return
        if not self._paused and connection.to_send:
            transport.write(connection.data_to_send())
        if connection.closed or (connection.draining and not connection.in_flight):
            self._hang_up(transport)

    def _hang_up(self, transport: asyncio.Transport) -> None:
        transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_CLOSE_GRACE, transport.abort)

    # ------------------------------------------------------------------ states and time

    def _settle(self) -> None:
        """Notices that the connection is greeted, and that it is over."""
        connection = self.connection
        if connection.closed or connection.draining:
            self._settled = False
            if not self._over:
                self._over = True
                _resolve(self.over)
                self._on_over(self)
            self._schedule()  # to hang up when the last call has ended
        elif connection.greeted and not self._settled:
            self._settled = True
            self.since = self._clock()
        if connection.greeted or connection.closed:
            _resolve(self.settled)

    def _tick(self) -> None:
        connection, timing, now = self.connection, self._timing, self._clock()
        self._timer = None
        self._expire(now)
        if self._probe == _PROBED:
            if now - max(self._probed_at, self._heard_at) >= timing.probe_timeout:
                connection.fail(UNAVAILABLE, "the replica fell silent and did not answer a PING")
                self._settle()
                self.abort()
                return
        elif now - self._heard_at >= timing.probe_after and now >= self._next_probe and connection.in_flight:
            self._probe, self._probed_at = _PROBED, now
            connection.ping()
        if connection.to_send or connection.draining:
            self._schedule()
        if connection.in_flight or self._probe == _PROBED:
            self._timer = self._loop.call_later(timing.tick, self._tick)

    def _expire(self, now: float) -> None:
        if self._deadlines:
            is_open = self.connection.is_open
            self._deadlines = {key: when for key, when in self._deadlines.items() if is_open(key)}
            for stream_id in [key for key, when in self._deadlines.items() if when <= now]:
                self.connection.expire(stream_id)

    def _probe_progress(self) -> None:
        if self._probe == _ANSWERED:  # the replica speaks again by itself
            self._probe, self._next_probe = _QUIET, 0.0
        elif not self.connection.pings:
            self._probe, self._next_probe = _ANSWERED, self._heard_at + self._timing.probe_again


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():  # who waited may have been cancelled, and the future with it
        future.set_result(None)


def _tune(sock: socket.socket | None) -> None:
    """No Nagle; the kernel gives up on a dead peer in about a minute, where it can be told to."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
