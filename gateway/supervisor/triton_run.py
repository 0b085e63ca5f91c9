"""One life of tritonserver, from its start to the end of everything it left behind.

The process started here is the guard (see `triton_guard`), which starts tritonserver; two pipes tie it to
us. Ours closing tells it that we are gone, its closing tells us that all is over and cleaned up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_GUARD = Path(__file__).with_name("triton_guard.py")
_CLEANUP_LIMIT_S = 10.0


class TritonRun:
    """A running tritonserver with its guard.

    Attributes:
        server_pid: process id of tritonserver itself.
    """

    def __init__(self, process: subprocess.Popen[bytes], grace_s: float) -> None:
        self._process = process
        self._grace_s = grace_s
        self._ended: asyncio.Task[int]
        self._transport: asyncio.BaseTransport
        self.server_pid = 0

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        env: Mapping[str, str],
        shm_prefix: str,
        log: Path,
        lock_fd: int,
        grace_s: float,
    ) -> TritonRun:
        """Start the guard and, through it, tritonserver.

        Args:
            lock_fd: inherited by the guard, so that the lock is held until it has cleaned up.
            grace_s: seconds between SIGTERM and SIGKILL.
        """
        order = {"command": list(command), "env": dict(env), "prefix": shm_prefix, "grace_s": grace_s}
        run = cls(_start_guard(log, lock_fd), grace_s)
        reader = asyncio.StreamReader()
        assert run._process.stdin is not None
        assert run._process.stdout is not None
        run._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), run._process.stdout
        )
        with contextlib.suppress(BrokenPipeError):  # then `ended` says so
            run._process.stdin.write(json.dumps(order).encode() + b"\n")
            run._process.stdin.flush()
        run.server_pid = int(await reader.readline() or b"0")
        run._ended = asyncio.create_task(run._wait(reader))
        return run

    @property
    def ended(self) -> asyncio.Task[int]:
        """Done when everything is gone; the result is tritonserver's exit status (128 + n for signal n)."""
        return self._ended

    async def stop(self) -> None:
        """SIGTERM, the grace period, SIGKILL; returns when nothing is left."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(b"stop\n")
            self._process.stdin.flush()
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), self._grace_s + _CLEANUP_LIMIT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the kernel then kills tritonserver
            await self._ended

    def abandon(self) -> None:
        """Tell the guard that nobody waits: it kills and cleans up at once, with or without us."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    async def _wait(self, reader: asyncio.StreamReader) -> int:
        await reader.read()
        self._transport.close()
        self.abandon()
        return self._process.wait()  # its last act was to close the pipe


def _start_guard(log: Path, lock_fd: int) -> subprocess.Popen[bytes]:
    """Isolated from our environment and from Triton's: only the standard library, and quick."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            pass_fds=(lock_fd,),
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor alone
        )
