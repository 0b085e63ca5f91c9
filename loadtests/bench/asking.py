"""A closed loop of requests: so many links, one request in flight on each, every byte kept with its time."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

from loadtests.bench.reply import Reads, Reply

GRACE_S = 60.0
"""For requests in flight after the time is up; what then has no reply is an error."""

clock = time.perf_counter


class Link(Protocol):
    """A way to the contender that takes one request at a time and tells its run of the end."""

    def ask(self, serial: int) -> None:
        """Begins a request. `Run.ended` hears of its end once."""
        ...

    def close(self) -> None: ...


class Target(Protocol):
    """What links are made to. `read` raises Incomplete."""

    async def connect(self, run: "Run") -> Link: ...

    def read(self, reads: Reads) -> Reply: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Asked:
    """One request and what came of it."""

    serial: int
    began: float
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    error: str = ""


class Run:
    """Keeps `concurrency` links busy until `limit` requests were asked or the time is up."""

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._links: list[Link] = []
        self._serial = 0
        self._left = 0
        self._until = 0.0
        self._closed = False
        self._busy: dict[Link, Asked] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._awaited = 0  # links that are to ask as soon as they are connected
        self._over: asyncio.Future[None]
        self.asked: list[Asked] = []

    async def connect(self) -> None:
        """Raises OSError."""
        self._links = [await self._target.connect(self) for _ in range(self._concurrency)]

    async def go(self, limit: int, seconds: float) -> list[Asked]:
        """Everything that was asked, in the order of its ends. Requests without a reply are errors."""
        self.asked = []
        self._left = limit
        self._until = clock() + seconds
        self._over = asyncio.get_running_loop().create_future()
        for link in list(self._links):
            self._next(link, first=True)
        try:
            async with asyncio.timeout(seconds + GRACE_S):
                await self._over
        except TimeoutError:
            late, self._busy = self._busy, {}
            for link, asked in late.items():
                asked.error = f"no end after {GRACE_S:g} s"
                self.asked.append(asked)
                link.close()
        return self.asked

    def close(self) -> None:
        """No more requests, no more links."""
        self._closed = True
        for link in self._links:
            link.close()

    def begin(self, link: Link, serial: int) -> Asked:
        """A link says that its request goes out now."""
        asked = self._busy[link] = Asked(serial, clock())
        return asked

    def ended(self, link: Link, error: str = "", *, lost: bool = False) -> None:
        """A link says that its request is over; `lost`: and so is the link, which is then replaced."""
        if self._closed:
            return
        asked = self._busy.pop(link, None)
        if asked is not None:
            asked.error = error
            self.asked.append(asked)
        elif error:
            self.asked.append(Asked(0, clock(), error=error))
        if lost:
            self._replace(link)
        elif asked is not None:
            self._next(link)

    def missed(self, link: Link) -> None:
        """A link was closed at rest, just as it asked: its request is asked again by the link that replaces it."""
        if self._closed:
            return
        self._busy.pop(link)
        self._left += 1
        self._replace(link, first=True)

    def _next(self, link: Link, *, first: bool = False) -> None:
        # The first of each link whatever the time: a busy machine may let all of it pass in between.
        if self._left > 0 and (first or clock() < self._until):
            self._left -= 1
            self._serial += 1
            link.ask(self._serial)
        else:
            self._end_if_idle()

    def _replace(self, link: Link, *, first: bool = False) -> None:
        self._links.remove(link)
        self._awaited += 1
        connecting = asyncio.get_running_loop().create_task(self._connect_again(first))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)

    async def _connect_again(self, first: bool) -> None:
        try:
            link = await self._target.connect(self)
        except OSError as error:
            self._awaited -= 1
            self.asked.append(Asked(0, clock(), error=f"no connection: {error}"))
            self._end_if_idle()
            return
        self._awaited -= 1
        self._links.append(link)
        self._next(link, first=first)

    def _end_if_idle(self) -> None:
        if not self._busy and not self._awaited and not self._over.done():
            self._over.set_result(None)
