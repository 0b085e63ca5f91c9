"""A worker's end of the link to the control process: the endpoints come in, counters and readiness go out.

The worker never waits for it. Without a link it serves what it has, and tries again with growing pauses, drawn at
random between half and whole so that workers don't come all at once. The lines are described in control/hub.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from gateway.orders import REPORT_EVERY_S
from gateway.routing.version import Endpoint
from gateway.unix_sockets import connect_unix

log = logging.getLogger("penstock.worker")

FIRST_PAUSE_S = 0.05
LAST_PAUSE_S = 1.0
MAX_LINE_BYTES = 1 << 28

OnEndpoints = Callable[[dict[str, Endpoint]], Awaitable[None]]


class News(Struct, frozen=True):
    """A line from the control process."""

    generation: int
    endpoints: dict[str, Endpoint]


_decode = msgspec.json.Decoder(News).decode


class Link:
    """`on_endpoints` takes over new endpoints, and returns when they serve; `report` gives the worker's figures.

    `path` is the control process's socket, `index` our number among the workers.
    """

    def __init__(self, path: Path, index: int, on_endpoints: OnEndpoints, report: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._index = index
        self._on_endpoints = on_endpoints
        self._report = report
        self._pause = FIRST_PAUSE_S
        self.generation = 0

    def __repr__(self) -> str:
        return f"<Link of worker {self._index}, generation {self.generation}>"

    async def run(self) -> None:
        """Link, and link again, for ever; cancel the task to end it."""
        while True:
            try:
                await self._linked()
            except OSError as error:
                log.debug("no link to the control process: %s", error)
            except (msgspec.DecodeError, ValueError) as error:  # ValueError: a line over the limit
                log.error("the control process said what is not of the link: %s", error)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(self._pause * 2, LAST_PAUSE_S)

    async def _linked(self) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connect_unix(self._path, 0), limit=MAX_LINE_BYTES)
        _send(writer, {"hello": self._index, "pid": os.getpid()})
        reporting = asyncio.create_task(self._reports(writer))
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                self._pause = FIRST_PAUSE_S
                await self._take(writer, _decode(line))
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await reporting
            writer.close()

    async def _take(self, writer: asyncio.StreamWriter, news: News) -> None:
        try:
            await self._on_endpoints(news.endpoints)
        except Exception:
            # The old endpoints still serve, and the control process sees that this generation is not acknowledged.
            log.exception("generation %d of the endpoints could not be taken over", news.generation)
            return
        self.generation = news.generation
        _send(writer, {"generation": news.generation, "applied": True})

    async def _reports(self, writer: asyncio.StreamWriter) -> None:
        while True:
            if not writer.transport.get_write_buffer_size():  # else it stands still, and the next report says all again
                _send(writer, self._report())
            await asyncio.sleep(REPORT_EVERY_S)


def _send(writer: asyncio.StreamWriter, line: dict[str, Any]) -> None:
    writer.write(orjson.dumps(line) + b"\n")
