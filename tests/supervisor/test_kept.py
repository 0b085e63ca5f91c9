"""A process that is kept alive, with processes of a few lines in the place of workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.supervisor.kept import KeptProcess

# Reports what it was told, then once for each byte that a test sends.
ECHO = """
import os, socket, sys
fd, conversation = map(int, sys.stdin.read().split())
os.write(fd, b"began\\n")
with socket.socket(fileno=conversation) as talk:
    while word := talk.recv(1):
        if word == b"t":
            os.write(fd, b"torn")
            os.kill(os.getpid(), 9)
        os.write(fd, word + b"\\n")
"""


class Life:
    """A kept process and what was heard of it."""

    def __init__(self, silent_s: float) -> None:
        self.ours, theirs = socket.socketpair()
        self.theirs = theirs
        self.lines: list[bytes] = []
        self.news: list[str] = []
        self.ends = 0
        self.changed = asyncio.Event()
        self.kept = KeptProcess(
            "worker 1",
            ("-c", ECHO),
            lambda fd: f"{fd} {theirs.fileno()}".encode(),
            (theirs.fileno(),),
            on_report=lambda line: self._note(self.lines.append, line),
            on_end=self._end,
            on_news=lambda news: self._note(self.news.append, news),
            silent_s=silent_s,
        )

    def _note(self, add: object, what: object) -> None:
        add(what)  # type: ignore[operator]
        self.changed.set()

    def _end(self) -> None:
        self.ends += 1

    async def until(self, lines: int) -> None:
        async with asyncio.timeout(60):
            while len(self.lines) < lines:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def kept(silent_s: float = 3600.0) -> AsyncIterator[Life]:
    life = Life(silent_s)
    await life.kept.start()
    try:
        await life.until(1)
        yield life
    finally:
        await life.kept.stop(30)
        assert life.kept.pid is None
        life.ours.close()
        life.theirs.close()


@pytest.mark.asyncio
async def test_a_killed_process_is_started_again_and_its_torn_report_is_left_out() -> None:
    async with kept() as life:
        first = life.kept.pid
        assert life.kept.heard
        life.ours.send(b"at")
        await life.until(3)
        assert life.lines == [b"began\n", b"a\n", b"began\n"]
        assert life.kept.pid not in (None, first)
        assert life.ends == 1
        assert life.news == ["worker 1 ended (signal 9); it is started again in 0.1 s"]


@pytest.mark.asyncio
async def test_a_stopped_process_is_replaced() -> None:
    async with kept(silent_s=0.5) as life:
        first = life.kept.pid
        assert life.kept.send(signal.SIGSTOP)
        await life.until(2)
        assert life.kept.pid != first
        assert life.news[0] == "worker 1 has not answered for 0.5 s; it is killed"
        with pytest.raises(ProcessLookupError):
            os.kill(first or 0, 0)


@pytest.mark.asyncio
async def test_who_does_not_end_is_killed_and_not_started_again() -> None:
    async with kept() as life:
        pid = life.kept.pid or 0
        life.kept.send(signal.SIGSTOP)
        await life.kept.stop(0.1)
        assert life.ends == 0
        assert life.news == []
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not life.kept.send(signal.SIGHUP)
