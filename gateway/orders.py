"""What the supervisor tells its processes, what they tell it, and how long they may take to end.

In a file of its own so that the supervisor need not import what the others are made of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gateway.config import Config
from gateway.routing.version import Endpoint

# Seconds that requests in flight have when a worker is told to end.
DRAIN_S = 10
# Seconds between two signs of life.
REPORT_EVERY_S = 0.5

LINK_SOCKET = "link.sock"
ADMIN_SOCKET = "admin.sock"

_Any = TypeVar("_Any")


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told.

    `config` has the endpoints as they serve now; `engine` is host:port of Triton's gRPC, `grpc` that of our own;
    `started` is the gateway's start in Unix seconds; `http_fd` is a listening socket, `report_fd` the pipe to the
    supervisor, whose process id is `parent`. `secret` is the state folder's, in hex.
    """

    index: int
    config: Config
    engine: str
    grpc: str
    started: int
    secret: str
    http_fd: int
    report_fd: int
    parent: int


class ControlOrders(msgspec.Struct, frozen=True):
    """What the control process is told.

    `config` is as the file had it when it was last loaded; `source` is that file, None for the built-in one, and
    `overrides` the fields of `Overrides`. `workers` is their number, `metrics_fd` a listening socket.
    """

    config: Config
    source: str | None
    overrides: dict[str, Any]
    workers: int
    metrics_fd: int
    report_fd: int
    parent: int


class ControlReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the control process tells the supervisor; an empty one is a sign of life.

    `file` are the endpoints as the file has them, `endpoints` as they serve: a process that is started again
    begins with these. `say` is for the operator's terminal.
    """

    file: dict[str, Endpoint] | None = None
    endpoints: dict[str, Endpoint] | None = None
    say: str = ""


def encode(orders: Any) -> bytes:
    """JSON of any of the above."""
    return msgspec.json.encode(orders, enc_hook=str)


def decode(data: bytes, kind: type[_Any]) -> _Any:
    """Errors: msgspec.DecodeError (of which ValidationError is one)."""
    return msgspec.json.decode(data, type=kind, dec_hook=_from_text)


def _from_text(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
