"""Listening sockets of a gateway, bound once by the supervisor and handed to the workers.

Workers share a port through SO_REUSEPORT: each has a socket of its own, the kernel spreads connections.
The supervisor keeps the sockets, so that a worker's queue of new connections outlives the worker. Since
SO_REUSEPORT would also let a *second gateway* share the port in silence, the address is first tried
without it.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Address


class PortTaken(Exception):
    """An address can't be listened on; the message says which, why, and what would do."""


def listen(address: Address, count: int, flag: str) -> list[socket.socket]:
    """`count` listening sockets on one address; port 0 takes a free one. Errors: PortTaken."""
    first = reserve(address, flag)
    host, port = first.getsockname()[:2]
    sockets = [first]
    while len(sockets) < count:
        sockets.append(_bind(first.family, host, port))
    for one in sockets:
        one.listen(2048)
        one.setblocking(False)
    return sockets


def reserve(address: Address, flag: str) -> socket.socket:
    """A bound socket that does not listen yet, on an address that nobody else uses. Errors: PortTaken."""
    try:
        family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)  # Linux refuses this while another socket listens, SO_REUSEADDR or not
            host, port = probe.getsockname()[:2]
        return _bind(family, host, port)
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise PortTaken(f"can't listen on {address}: {why}; choose another with {flag} HOST:PORT") from error


def _bind(family: int, host: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound
