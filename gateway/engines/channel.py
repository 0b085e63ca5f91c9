"""A few HTTP/2 connections to one replica, kept open, and calls spread over them.

The rules:

- `call` is synchronous, makes no task and never calls the receiver back before it has returned.
- Each of `connections` slots has one task that keeps a link in it: connect, wait until the link is over, and
  again. A failed attempt is followed by a pause of random length up to a limit that doubles from 0.1 s to 5 s
  (full jitter); a link that had lived for a second is replaced at once. A link that is draining keeps its
  calls while its slot already opens the next.
- A call goes to the link with the fewest calls in flight. If every link is at its stream limit (or full of
  unsent octets), calls wait for one more connection to open, up to `max_connections` in all; such an extra
  connection is not replaced when it is lost. A call waits for nothing else: without a connection it fails
  with 14 UNAVAILABLE, at the limit of all connections with 8 RESOURCE_EXHAUSTED. The first says that the
  replica is away, the second that it is busy; health checks should care for the first only.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.engines.http2 import Connection, Method, Receiver
from gateway.engines.http2_headers import extra_fields
from gateway.engines.http2_link import Link, Timing
from gateway.engines.http2_status import CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE

__all__ = ["Call", "Channel", "Counters", "Timing"]

logger = logging.getLogger(__name__)

MAX_WAITING = 1024  # calls that may wait for an extra connection
_CLOSE_TIMEOUT = 2.0  # seconds


@dataclass(slots=True)
class Counters:
    """What happened to a channel's connections since it was made; for metrics."""

    connects: int = 0  # connections that came as far as the replica's SETTINGS
    connect_failures: int = 0
    disconnects: int = 0  # of those that had connected
    goaways: int = 0  # connections that the replica asked us to leave
    last_error: str = ""


class Call:
    """One call in flight."""

    __slots__ = ("_link", "_stream_id")

    def __init__(self, link: Link | None = None, stream_id: int = 0) -> None:
        self._link = link
        self._stream_id = stream_id

    def cancel(self) -> None:
        """Ends the call; its receiver hears nothing more. May be called again, and after the end."""
        link, self._link = self._link, None
        if link is not None:
            link.cancel(self._stream_id)


class WaitingCall(Call):
    """A call that could not be opened at once: it waits for a connection, or for its refusal."""

    __slots__ = ("deadline", "message", "metadata", "method", "receiver")

    def __init__(
        self,
        method: Method,
        message: bytes,
        receiver: Receiver,
        deadline: float | None,
        metadata: Sequence[tuple[bytes, bytes]],
    ) -> None:
        super().__init__()
        self.method = method
        self.message = message
        self.receiver: Receiver | None = receiver
        self.deadline = deadline
        self.metadata = metadata

    def cancel(self) -> None:
        self.receiver = None
        super().cancel()

    def open(self, link: Link, now: float) -> None:
        receiver = self.receiver
        if receiver is None:
            return
        timeout = None if self.deadline is None else self.deadline - now
        if timeout is not None and timeout <= 0:
            self.refuse(DEADLINE_EXCEEDED, "the deadline passed while the call waited for a connection")
            return
        self.receiver = None
        self._stream_id = link.open(self.method, self.message, receiver, timeout, self.metadata)
        self._link = link

    def refuse(self, status: int, detail: str) -> None:
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            try:
                receiver.on_close(status, detail)
            except Exception:
                logger.exception("on_close of a refused call raised")


def _authority(host: str, port: int) -> str:
    name = host.partition("%")[0]  # an IPv6 zone is of no concern to the peer
    if ":" in name:
        return f"[{name}]:{port}"
    return f"{name if name.isascii() else name.encode('idna').decode()}:{port}"


class Channel:
    """Connections to the gRPC server at host:port. `host` is a name, an IPv4 or an IPv6 address.

    `rng` draws the pauses between attempts, `clock` gives seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connections: int = 2,
        max_connections: int = 8,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing | None = None,
        max_message: int = 64 << 20,
    ) -> None:
        self.counters = Counters()
        self._host = host
        self._port = port
        self._authority = _authority(host, port)
        self._connections = connections
        self._max_connections = max(connections, max_connections)
        self._rng = rng or random.Random()
        self._clock = clock
        self._timing = timing or Timing()
        self._max_message = max_message
        self._links: list[Link] = []
        self._slots: set[asyncio.Task[None]] = set()
        self._extra: asyncio.Task[None] | None = None  # the extra connection being opened
        self._waiting: deque[WaitingCall] = deque()
        self._ready = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        error = f" last_error={self.counters.last_error!r}" if self.counters.last_error else ""
        return f"<Channel {self._authority} {'closed ' if self._closed else ''}{self._links!r}{error}>"

    @property
    def ready(self) -> bool:
        """At least one connection is established and takes calls, now or when others have ended."""
        return self._ready.is_set()

    @property
    def in_flight(self) -> int:
        """Calls opened and not yet over."""
        return sum(link.connection.in_flight for link in self._links)

    @property
    def connections(self) -> dict[str, int]:
        """Connections by state: ready, full (established, but takes no more calls now), draining, and connecting,
        which is each one wanted that is not there, be it between two attempts."""
        established = sum(link.established for link in self._links)
        ready = sum(link.available for link in self._links)
        return {
            "ready": ready,
            "full": established - ready,
            "draining": len(self._links) - established,
            "connecting": max(0, len(self._slots) - established),
        }

    @property
    def events(self) -> dict[str, int]:
        """What happened to connections since the channel was made."""
        counters = self.counters
        return {
            "connected": counters.connects,
            "failed": counters.connect_failures,
            "lost": counters.disconnects,
            "goaway": counters.goaways,
        }

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Begins to connect; returns at once, whether or not the replica is there."""
        for _ in range(self._connections):
            self._spawn(self._keep())

    async def wait_ready(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds for the first usable connection."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Ends every call with 1 CANCELLED, says goodbye and waits until the sockets are gone. Idempotent."""
        self._closed = True
        slots = list(self._slots)
        for slot in slots:
            slot.cancel()
        await asyncio.gather(*slots, return_exceptions=True)
        self._refuse_waiting(CANCELLED, "the channel was closed")
        links = list(self._links)
        for link in links:
            link.close(CANCELLED, "the channel was closed")
        if links:
            await asyncio.wait([link.lost for link in links], timeout=_CLOSE_TIMEOUT)

    # ------------------------------------------------------------------ calls

    def call(
        self,
        method: Method,
        message: bytes,
        receiver: Receiver,
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[bytes, bytes]] = (),
    ) -> Call:
        """Begins a call. `timeout` in seconds: the replica is told, and after it the call ends here, too,
        within a tick. ValueError for metadata that gRPC doesn't allow; every other failure is `on_close`."""
        link = self._pick()
        if link is not None:
            return Call(link, link.open(method, message, receiver, timeout, metadata))
        extra_fields(timeout, metadata)  # for its ValueError
        deadline = None if timeout is None else self._clock() + timeout
        call = WaitingCall(method, message, receiver, deadline, metadata)
        refusal = self._enqueue(call)
        if refusal is not None:
            asyncio.get_running_loop().call_soon(call.refuse, *refusal)
        return call

    def _pick(self) -> Link | None:
        best, fewest = None, 1 << 62
        for link in self._links:
            in_flight = link.connection.in_flight
            if in_flight < fewest and link.available:
                best, fewest = link, in_flight
        return best

    def _enqueue(self, call: WaitingCall) -> tuple[int, str] | None:
        """Lets the call wait for an extra connection, or says why it can't."""
        if self._closed:
            return UNAVAILABLE, "the channel is closed"
        if not self.ready:
            return (
                UNAVAILABLE,
                f"no connection to {self._authority}: {self.counters.last_error or 'connecting'}",
            )
        if len(self._waiting) >= MAX_WAITING or not self._expand():
            return RESOURCE_EXHAUSTED, self._all_full()
        self._waiting.append(call)
        return None

    def _all_full(self) -> str:
        return f"all {len(self._links)} connections to {self._authority} are at their limit of streams or octets"

    def _admit(self) -> None:
        """Opens the calls that wait, as far as there is room; for the rest one more connection, or none."""
        while self._waiting and (link := self._pick()) is not None:
            self._waiting.popleft().open(link, self._clock())
        if self._waiting and not self._expand():
            self._refuse_waiting(RESOURCE_EXHAUSTED, self._all_full())

    def _refuse_waiting(self, status: int, detail: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.refuse(status, detail)

    # ------------------------------------------------------------------ connections

    def _spawn(self, life: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(life, name=f"channel {self._authority}")
        self._slots.add(task)
        task.add_done_callback(self._slot_ended)
        return task

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        self._slots.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection slot of %r died", self, exc_info=error)

    async def _keep(self) -> None:
        """The life of a slot: always one link that takes calls, or on its way there."""
        timing, failures = self._timing, 0
        while True:
            link = await self._connect()
            if link is not None:
                await link.over
                if self._clock() - link.since >= timing.healthy_after:
                    failures = 0
                    continue
            limit = min(timing.backoff_last, timing.backoff_first * 2.0 ** min(failures, 30))
            failures += 1
            await asyncio.sleep(self._rng.uniform(0.0, limit))

    def _expand(self) -> bool:
        """An extra connection is being opened."""
        if self._extra is None and not self._closed and len(self._slots) < self._max_connections:
            self._extra = self._spawn(self._keep_extra())
        return self._extra is not None

    async def _keep_extra(self) -> None:
        try:
            link = await self._connect()
        finally:
            self._extra = None
        if link is None:
            self._refuse_waiting(RESOURCE_EXHAUSTED, f"{self._all_full()}, and one more could not be opened")
            return
        self._admit()
        await link.over

    async def _connect(self) -> Link | None:
        """One attempt. The link has joined the others when this returns; None if there is no link."""
        connection = Connection(self._authority.encode(), max_message=self._max_message)
        link = Link(connection, self._timing, self._clock, self._link_over, self._link_lost)
        try:
            async with asyncio.timeout(self._timing.connect_timeout):
                await asyncio.get_running_loop().create_connection(lambda: link, self._host, self._port)
                await link.settled
            if not link.established:
                raise ConnectionError(connection.error)
        except (OSError, UnicodeError) as error:  # an OSError: TimeoutError, too
            self.counters.connect_failures += 1
            self.counters.last_error = f"{type(error).__name__}: {str(error) or 'no HTTP/2 connection in time'}"
            link.abort()
            return None
        except asyncio.CancelledError:
            link.abort()
            raise
        self._links.append(link)
        self.counters.connects += 1
        self._ready.set()
        return link

    def _link_over(self, link: Link) -> None:
        if link in self._links:
            self.counters.goaways += link.connection.draining
            if not self._closed:
                self.counters.last_error = link.connection.error
            self._update_ready()

    def _link_lost(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)
            self.counters.disconnects += 1
            self._update_ready()

    def _update_ready(self) -> None:
        if not any(link.established for link in self._links):
            self._ready.clear()
