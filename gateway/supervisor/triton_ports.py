"""Ports on loopback for Triton, kept for as long as the supervisor lives.

A port is chosen by binding a socket that never listens. Triton binds the same port with SO_REUSEPORT
(`--reuse-grpc-port`), so between choosing and listening nobody else can take it, and across a restart of
Triton it stays ours: workers reconnect to where they were. Only processes of the same user that set
SO_REUSEPORT themselves and ask for this very port could still join.
"""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


class ReservedPort:
    """One port. `number` is what to give to Triton."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def __repr__(self) -> str:
        return f"ReservedPort({LOOPBACK}:{self.number})"

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def free_port() -> int:
    """A port that was free a moment ago, for a listener that can't share it with a reservation."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        number: int = probe.getsockname()[1]
        return number
