"""What a config is, once it has been read: frozen, complete, every path absolute.

Defaults stand here and nowhere else; schema.py takes them from these structs, and the reference in the
documentation takes them from the schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from gateway.routing.version import Endpoint

MIB = 1 << 20


class Address(Struct, frozen=True):
    """Where to listen or to connect. `host` has no brackets; port 0 listens on any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ServerConfig(Struct, frozen=True):
    """What the gateway listens on and where it keeps its state. `workers` 0 is one per core."""

    http: Address = Address("127.0.0.1", 8080)
    grpc: Address = Address("127.0.0.1", 8081)
    metrics: Address = Address("127.0.0.1", 8082)
    workers: int = 0
    state: Path = Path(".penstock")


class ModelSource(Struct, frozen=True):
    """A model by path for the embedded Triton: a .gguf file, or a folder with OpenVINO IR."""

    path: Path
    format: Literal["gguf", "openvino"]


class EngineConfig(Struct, frozen=True):
    """`url` is host:port of a Triton's gRPC that someone else runs; "" starts the embedded one.

    `environment` is the folder of the virtual environment that holds the embedded Triton, "" for the
    default of the supervisor. `start_timeout_s` is in seconds.
    """

    url: str = ""
    connections: int = 2
    environment: str = ""
    start_timeout_s: float = 60.0
    models: dict[str, ModelSource] = field(default_factory=dict)


class LimitsConfig(Struct, frozen=True):
    """Sizes in bytes, times in seconds."""

    body_bytes: int = 4 * MIB
    header_bytes: int = 32 * 1024
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    request_timeout_s: float = 600.0
    idle_timeout_s: float = 75.0
    concurrent_requests: int = 4096
    client_buffer_bytes: int = 4 * MIB


class Config(Struct, frozen=True):
    """The whole. `endpoints` has at least one entry; each has at least one version."""

    server: ServerConfig
    engine: EngineConfig
    limits: LimitsConfig
    endpoints: dict[str, Endpoint]


class Overrides(Struct, frozen=True):
    """What the command line says in place of the file, as typed there; None where it says nothing.

    Read by the rules of the keys of [server]; a relative `state` is relative to the working folder.
    """

    http: str | None = None
    grpc: str | None = None
    metrics: str | None = None
    state: str | Path | None = None
    workers: int | str | None = None
