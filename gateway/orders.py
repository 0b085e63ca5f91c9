"""What the supervisor tells a worker, and how long a worker may take to end.

In a file of its own so that the supervisor need not import what a worker is made of.
"""

from __future__ import annotations

import msgspec

from gateway.config import Config

# Seconds that requests in flight have when a worker is told to end.
DRAIN_S = 10


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told.

    `engine` is host:port of Triton's gRPC, `grpc` that of our own; `started` is the gateway's start in Unix
    seconds; `http_fd` is a listening socket, `report_fd` the pipe to the supervisor, whose process id is `parent`.
    """

    index: int
    config: Config
    engine: str
    grpc: str
    started: int
    http_fd: int
    report_fd: int
    parent: int


def encode_orders(orders: Orders) -> bytes:
    """The bytes for a worker's standard input."""
    return msgspec.json.encode(orders, enc_hook=str)


def decode_orders(data: bytes) -> Orders:
    """Errors: msgspec.ValidationError."""
    return msgspec.json.decode(data, type=Orders, dec_hook=lambda kind, value: kind(value))
