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
GIB = 1 << 30


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


class JournalConfig(Struct, frozen=True):
    """Sizes in bytes; a segment is rotated at `segment_age_s` seconds, `keep_days` are days.

    `redact` are regular expressions that compile and never match nothing.
    """

    segment_bytes: int = 64 * MIB
    segment_age_s: float = 3600.0
    keep_days: float = 30.0
    keep_bytes: int = 10 * GIB
    memory_bytes: int = 32 * MIB
    redact: tuple[str, ...] = ()


class TracesConfig(Struct, frozen=True):
    """`otlp` is the base URL of an OTLP/HTTP receiver, without a slash at its end; "" exports nothing.

    `share` in [0, 1] of the requests is kept beside errors and those of `slow_s` seconds or more; `engine` asks the
    embedded Triton for spans too.
    """

    otlp: str = ""
    share: float = 0.01
    slow_s: float = 10.0
    engine: bool = True


class KeyConfig(Struct, frozen=True):
    """A key that callers may have: `sha256` of it in 64 lower-case hex digits, and the endpoints that it may use.

    "*" among `endpoints` is all of them.
    """

    name: str
    sha256: str
    endpoints: tuple[str, ...] = ("*",)


class Config(Struct, frozen=True):
    """The whole. `endpoints` has at least one entry; each has at least one version.

    Without `keys` whoever reaches the gateway may call it, and it listens on loopback only.
    """

    server: ServerConfig
    engine: EngineConfig
    limits: LimitsConfig
    endpoints: dict[str, Endpoint]
    journal: JournalConfig = JournalConfig()
    traces: TracesConfig = TracesConfig()
    keys: tuple[KeyConfig, ...] = ()


class Overrides(Struct, frozen=True):
    """What the command line says in place of the file, as typed there; None where it says nothing.

    Read by the rules of the keys of [server]; a relative `state` is relative to the working folder.
    """

    http: str | None = None
    grpc: str | None = None
    metrics: str | None = None
    state: str | Path | None = None
    workers: int | str | None = None
