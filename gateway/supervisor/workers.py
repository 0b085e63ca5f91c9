"""The worker processes: start, reports, restart, end.

A worker that dies is started again on the same socket, at once the first time and then with growing
pauses while it keeps dying young. The others are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from gateway.orders import Orders, encode_orders

MAX_PAUSE_S = 5.0
YOUNG_S = 10.0
MAX_REPORT_BYTES = 1 << 20

OnReport = Callable[[int, dict[str, Any]], None]
OnDeath = Callable[[int, int, float], None]


class WorkerProcess:
    """One worker slot: a process that is kept alive.

    `make_orders` takes (index, listening fd, report fd); `on_death` hears (index, exit code, pause in seconds).
    """

    def __init__(
        self,
        index: int,
        make_orders: Callable[[int, int, int], Orders],
        listener: socket.socket,
        on_report: OnReport,
        on_death: OnDeath,
    ) -> None:
        self.index = index
        self._make_orders = make_orders
        self._listener = listener
        self._on_report = on_report
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reports: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The process id, None between two lives."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process and keep it alive from now on."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s` seconds."""
        self._ending = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), grace_s)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _spawn(self) -> None:
        reader, writer = os.pipe()
        fd = self._listener.fileno()
        orders = self._make_orders(self.index, fd, writer)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.app",
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(fd, writer),
                # Ctrl-C reaches the whole group of a terminal; ending the workers is the supervisor's part.
                start_new_session=True,
            )
        finally:
            os.close(writer)
        stdin = self._process.stdin
        assert stdin is not None  # asked for above
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died at once: the keeper sees it
            stdin.write(encode_orders(orders))
            await stdin.drain()
            stdin.close()
        self._reports = asyncio.create_task(self._read_reports(reader))

    async def _read_reports(self, fd: int) -> None:
        stream = asyncio.StreamReader(limit=MAX_REPORT_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(fd, "rb"))
        try:
            async for line in stream:
                self._on_report(self.index, orjson.loads(line))
        finally:
            transport.close()

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            process = self._process
            assert process is not None  # _spawn comes first
            born = time.monotonic()
            code = await process.wait()
            if self._reports is not None:
                await self._reports
            if self._ending:
                return
            young = time.monotonic() - born < YOUNG_S
            pause = min(MAX_PAUSE_S, max(0.1, pause * 2)) if young else 0.0
            self._on_death(self.index, code, pause)
            await asyncio.sleep(pause)
            await self._spawn()
