"""A process that is kept alive: start, reports, restart, end. Workers and the control process are such.

One that ends is started again, at once the first time and then with growing pauses while it keeps dying young. One
that stops answering, which a stopped or hung process does, is killed and thereby replaced. The others are not touched.

Silence is counted in rounds of our own and not by the clock: when it is we who stood still, its reports wait in the
pipe, and are read before the next round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

MAX_PAUSE_S = 5.0
YOUNG_S = 10.0
MAX_REPORT_BYTES = 1 << 28

# Seconds without a report after which a process is replaced: the first takes longer, for it must start.
SILENT_S = 5.0
FIRST_REPORT_S = 60.0
_ROUND_S = 0.25


class KeptProcess:
    """One process, whatever its life.

    `command` are the arguments of our Python; `orders` makes what is written to its standard input and is told the
    descriptor that it reports through; `fds` are passed on. `on_report` hears each line, `on_news` what became of the
    process, in words; `on_end` that a life has ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        orders: Callable[[int], bytes],
        fds: Sequence[int],
        *,
        on_report: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_news: Callable[[str], None],
        silent_s: float = SILENT_S,
    ) -> None:
        self.name = name
        self._command = command
        self._orders = orders
        self._fds = tuple(fds)
        self._on_report = on_report
        self._on_end = on_end
        self._on_news = on_news
        self._silent_s = silent_s
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reports: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._rounds = 0  # without a report
        self._heard = False  # in this life
        self._ending = False

    def __repr__(self) -> str:
        return f"<KeptProcess {self.name}, process {self.pid}>"

    @property
    def pid(self) -> int | None:
        """The process id, None between two lives."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def heard(self) -> bool:
        """Whether it has reported in this life."""
        return self._heard and self.pid is not None

    async def start(self) -> None:
        """Start the process and keep it alive from now on."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False between two lives."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        process.send_signal(number)
        return True

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
        await self._end_life()

    async def _spawn(self) -> None:
        self._rounds = 0
        self._heard = False
        reader, writer = os.pipe()
        orders = self._orders(writer)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(*self._fds, writer),
                # Ctrl-C reaches the whole group of a terminal; ending the others is the supervisor's part.
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._reports = asyncio.create_task(self._read_reports(reader))
        self._watcher = asyncio.create_task(self._watch(self._process))
        stdin = self._process.stdin
        assert stdin is not None  # asked for above
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died at once: the keeper sees it
            stdin.write(orders)
            await stdin.drain()
            stdin.close()

    async def _read_reports(self, fd: int) -> None:
        stream = asyncio.StreamReader(limit=MAX_REPORT_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(fd, "rb"))
        try:
            while (line := await stream.readline()).endswith(b"\n"):  # the last one of a killed process may be torn
                self._rounds = 0
                self._heard = True
                self._on_report(line)
        finally:
            transport.close()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(_ROUND_S)
            self._rounds += 1
            if self._ending or process.returncode is not None:
                return
            limit = self._silent_s if self._heard else max(FIRST_REPORT_S, self._silent_s)
            if self._rounds * _ROUND_S > limit:
                self._on_news(f"{self.name} has not answered for {limit:g} s; it is killed")
                process.kill()
                return

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            process = self._process
            assert process is not None  # _spawn comes first
            born = time.monotonic()
            code = await process.wait()
            await self._end_life()
            if self._ending:
                return
            young = time.monotonic() - born < YOUNG_S
            pause = min(MAX_PAUSE_S, max(0.1, pause * 2)) if young else 0.0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._on_end()
            self._on_news(f"{self.name} ended ({how}); it is started again in {pause:.1f} s")
            await asyncio.sleep(pause)
            await self._spawn()

    async def _end_life(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._reports is not None:
            await self._reports  # what it said before it ended
