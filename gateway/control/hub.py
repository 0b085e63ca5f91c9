"""The link to the workers, at this end: each gets the endpoints when it comes and whenever they change.

Lines of JSON over STATE/link.sock. To a worker: {"generation", "endpoints"}. From it: {"hello", "pid"} first, then
{"generation", "applied"} when it serves them, and {"stats", "readiness"} every half second. A worker never waits
for us, and we wait for it only in `agreed`, for a bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.metrics_app import Totals
from gateway.routing.version import Endpoint

log = logging.getLogger("penstock.control")

MAX_LINE_BYTES = 1 << 24
MAX_WAITING_BYTES = 1 << 28  # for a worker that stands still: endpoints have chat templates of up to 1 MiB


class Said(Struct, frozen=True):
    """Any line of a worker."""

    hello: int | None = None
    pid: int = 0
    generation: int | None = None
    applied: bool = False
    stats: dict[str, Any] | None = None
    readiness: dict[str, Any] | None = None


class Member(Struct, eq=False):
    """A linked worker. `generation` is what it serves, 0 before its first word on it."""

    index: int
    pid: int
    writer: asyncio.StreamWriter
    generation: int = 0
    readiness: dict[str, Any] = {}


class Hub:
    """The linked workers, by index."""

    def __init__(self, totals: Totals) -> None:
        self.members: dict[int, Member] = {}
        self.generation = 0
        self._line = b""
        self._totals = totals
        self._news = asyncio.Event()
        self._known: dict[int, int] = {}  # worker → the process whose counters `totals` has
        self._watched: dict[int, int] = {}  # descriptor of a process → its worker
        self._server: asyncio.Server | None = None
        self._reading: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        linked = ", ".join(f"{m.index}: {m.generation}" for m in self.members.values())
        return f"<Hub generation {self.generation}, workers {linked or 'none'}>"

    async def start(self, listener: socket.socket) -> None:
        """Take links from now on."""
        self._server = await asyncio.start_unix_server(self._linked, sock=listener, limit=MAX_LINE_BYTES)

    async def close(self) -> None:
        """End all links; the workers go on."""
        if self._server is not None:
            self._server.close()
        for task in list(self._reading):
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        for descriptor in list(self._watched):
            self._forget(descriptor)

    def publish(self, generation: int, endpoints: Mapping[str, Endpoint]) -> None:
        """Send to all, and to those who come later."""
        self.generation = generation
        self._line = msgspec.json.encode({"generation": generation, "endpoints": endpoints}) + b"\n"
        for member in self.members.values():
            self._send(member)

    async def agreed(self, limit_s: float) -> bool:
        """Wait until all linked workers serve the newest endpoints; False when some do not within `limit_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not self._agree():
                    self._news.clear()
                    await self._news.wait()
        return self._agree()

    def workers(self) -> list[dict[str, Any]]:
        """Each linked worker: index, process, the generation that it serves, and whether that is the newest."""
        return [
            {"worker": m.index, "pid": m.pid, "generation": m.generation, "applied": m.generation == self.generation}
            for m in sorted(self.members.values(), key=lambda member: member.index)
        ]

    def readiness(self, label: str) -> str:
        """The state of a version in words: "ready" when it is so for all linked workers, else why not."""
        if not self.members:
            return "no worker is linked"
        for member in self.members.values():
            state = member.readiness.get(label)
            if state is None or not state["ready"]:
                return str(state["reason"]) if state else "not reported yet"
        return "ready"

    def _agree(self) -> bool:
        return all(member.generation == self.generation for member in self.members.values())

    def _send(self, member: Member) -> None:
        if not self._line:
            return  # nothing was published yet
        member.writer.write(self._line)
        if member.writer.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            member.writer.transport.abort()  # it links anew when it moves again

    async def _linked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._reading.add(task)
        member: Member | None = None
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                said = msgspec.json.decode(line, type=Said)
                if member is None:
                    if said.hello is None:
                        raise msgspec.ValidationError("the first line must say hello")
                    member = self._welcome(Member(said.hello, said.pid, writer))
                else:
                    self._hear(member, said)
        except (msgspec.DecodeError, ValueError) as error:  # ValueError: a line over the limit
            log.warning("a link to a worker is ended, for it said what is not of the link: %s", error)
        except ConnectionError:
            pass  # killed, with unread bytes of ours; the end of a link is not worth a word
        except asyncio.CancelledError:
            pass  # by `close`
        finally:
            self._reading.discard(task)
            if member is not None and self.members.get(member.index) is member:
                del self.members[member.index]
                self._news.set()
            writer.close()

    def _welcome(self, member: Member) -> Member:
        index, pid = member.index, member.pid
        if self._known.get(index, pid) != pid:
            self._totals.retire(index)
        if self._known.get(index) != pid:
            self._known[index] = pid
            self._watch(index, pid)
        self.members[index] = member
        self._send(member)
        return member

    def _hear(self, member: Member, said: Said) -> None:
        if said.generation is not None and said.applied:
            member.generation = said.generation
            self._news.set()
        if said.readiness is not None:
            member.readiness = said.readiness
        if said.stats is not None and self._known.get(member.index) == member.pid:
            self._totals.update(member.index, said.stats)

    def _watch(self, index: int, pid: int) -> None:
        # A lost link may be the link's fault, and then the worker's counters come again with the next one. Only the
        # end of the process ends its count.
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return  # it has ended already: its successor's hello retires it
        self._watched[descriptor] = index
        asyncio.get_running_loop().add_reader(descriptor, self._ended, descriptor, pid)

    def _ended(self, descriptor: int, pid: int) -> None:
        index = self._forget(descriptor)
        if self._known.get(index) == pid:
            del self._known[index]
            self._totals.retire(index)

    def _forget(self, descriptor: int) -> int:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        return self._watched.pop(descriptor)
