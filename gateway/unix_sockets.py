"""Unix sockets at paths of any length, and who is at the other end of one.

The address of a Unix socket holds 107 bytes, and a state folder may lie deeper than that. A path that is longer
is reached through an open descriptor of its folder, /proc/self/fd/N/name, which is short and is the same file.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_PATH_BYTES = 107
_CREDENTIALS = struct.Struct("3i")  # struct ucred of Linux: process, user, group


class Peer(NamedTuple):
    """The process that connected. `user` is its login name, or the number where it has none."""

    pid: int
    user: str

    def __str__(self) -> str:
        return f"{self.user} (process {self.pid})"


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """What to bind or connect to for `path`, while the block lasts. Errors: OSError when its folder is not there."""
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen_unix(path: Path) -> socket.socket:
    """A listening socket for our own user alone, in the place of one that an ended process left. Errors: OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with address_of(path) as address:
            listener.bind(address)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def connect_unix(path: Path, timeout: float | None = None) -> socket.socket:
    """A connected socket; `timeout` in seconds is its own from then on, 0 for one that never blocks.

    Errors: FileNotFoundError and ConnectionRefusedError when nobody listens, other OSErrors.
    """
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout)
        with address_of(path) as address:
            connected.connect(address)
    except BaseException:
        connected.close()
        raise
    return connected


def peer_of(connected: socket.socket) -> Peer:
    """Who is at the other end, as the kernel knows it."""
    pid, uid, _ = _CREDENTIALS.unpack(
        connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size),
    )
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Peer(pid, user)
