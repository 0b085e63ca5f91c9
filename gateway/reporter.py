"""A process's reports to the supervisor: lines through a pipe, whole or not at all.

A sign of life is sent only when all before it has been read, so that a supervisor that stands still costs no memory
and finds no old news later. What must arrive waits its turn.
"""

from __future__ import annotations

import asyncio
import os


class Reporter:
    """The writing end of a pipe, `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._transport: asyncio.WriteTransport | None = None

    async def start(self) -> None:
        """Take over the descriptor."""
        loop = asyncio.get_running_loop()
        file = os.fdopen(self._fd, "wb", buffering=0)
        self._transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, file)

    def send(self, line: bytes) -> bool:
        """Send a sign of life, or leave it out while earlier ones wait. False when the supervisor is gone."""
        assert self._transport is not None  # start comes first
        if self._transport.is_closing():
            return False
        if not self._transport.get_write_buffer_size():
            self._transport.write(line + b"\n")
        return True

    def send_all(self, line: bytes) -> None:
        """Send what must arrive."""
        assert self._transport is not None
        self._transport.write(line + b"\n")

    def close(self) -> None:
        """What still waits is sent first."""
        if self._transport is not None:
            self._transport.close()
