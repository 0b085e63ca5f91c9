"""The engine for NVIDIA Triton: jobs in, one ModelStreamInfer call each, chunks out.

One engine is one replica. The parts: `triton_models` knows which versions can be served and by which binding,
the binding makes the request's bytes, the channel carries them, `triton_call` hears what comes back. There is
no task per job, and nothing here waits: a job that cannot start is told so on the next turn of the loop.

Why a call per job and not one long stream: cancel, deadline and trace context are per call, and the cost per
token is the same.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from gateway.core.errors import EngineUnavailable, Internal, PenstockError
from gateway.engines.base import Job, Listener, Readiness, Upstream
from gateway.engines.channel import Channel
from gateway.engines.http2 import Method
from gateway.engines.triton_call import TritonCall
from gateway.engines.triton_metadata import MetadataClient
from gateway.engines.triton_models import ModelTable
from gateway.routing.version import Version

logger = logging.getLogger(__name__)

STREAM_INFER = Method("/inference.GRPCInferenceService/ModelStreamInfer")
_STOP_TIMEOUT = 5.0  # seconds for a stop request, of which nobody waits for the answer


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of a replica: `host:port`, `grpc://host:port`, `[ipv6]:port`. Errors: ValueError."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "grpc", url
    if scheme != "grpc":
        raise ValueError(f"'{url}': the engine speaks plain gRPC; write grpc://host:port, and leave TLS to a proxy")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"'{url}' is no host:port; Triton's gRPC port is 8001 unless it was told otherwise")
    return host, int(port)


class _Deaf:
    """The receiver of a stop request: whatever comes of it, the job is over for us."""

    def on_message(self, message: bytes) -> None:
        return None

    def on_close(self, status: int, detail: str) -> None:
        return None


_DEAF = _Deaf()


class TritonEngine:
    """One Triton server. `url` as in `parse_url`; its models are looked at every `interval` seconds."""

    def __init__(self, url: str, *, connections: int = 2, interval: float = 2.0) -> None:
        host, port = parse_url(url)
        self.where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._channel = Channel(host, port, connections=connections)
        self._interval = interval
        self._metadata: MetadataClient | None = None
        self._models: ModelTable | None = None
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<TritonEngine {self.where} ready={self._channel.ready} in_flight={self._channel.in_flight}>"

    @property
    def replica(self) -> str:
        """host:port of the server."""
        return self.where

    def upstreams(self) -> list[Upstream]:
        """The connections to each replica, for metrics."""
        channel = self._channel
        return [Upstream(self.where, channel.connections, channel.in_flight, channel.events)]

    async def start(self, versions: list[Version]) -> None:
        """Begin to connect and to read the models' interfaces. Returns without waiting for the server."""
        self._metadata = MetadataClient(self.where)
        self._models = ModelTable(self._metadata, versions, interval=self._interval)
        await self._channel.start()
        self._looking = asyncio.create_task(self._models.run(), name=f"models of {self.where}")

    async def watch(self, versions: list[Version]) -> None:
        """Exchange the versions; see ModelTable. Returns when the new ones were looked at."""
        if self._models is not None:
            await self._models.watch(versions)

    def readiness(self, version: Version) -> Readiness:
        if self._models is None:
            return Readiness(False, "the engine was not started")
        known = self._models.readiness(version)
        if known.ready and not self._channel.ready:
            return Readiness(False, f"no connection to Triton at {self.where}", known.contract, known.features)
        return known

    def call(self, version: Version, job: Job, listener: Listener) -> TritonCall:
        """Start a job. Errors are told to the listener, but EngineUnavailable if the version is not ready."""
        served = self._models.served(version) if self._models is not None else None
        if served is None or not self._channel.ready:
            reason = self.readiness(version).reason
            raise EngineUnavailable(f"{version.label} is not ready: {reason}.", retry_after=1.0)
        call = TritonCall(self, served, job, listener)
        binding = served.binding
        try:
            message = binding.encode(job)
            call.read_with(binding.reader(job))
            call.begin(self._channel.call(STREAM_INFER, message, call, timeout=job.timeout, metadata=job.metadata))
        except PenstockError as error:
            asyncio.get_running_loop().call_soon(call.fail, error)
        except ValueError:  # the channel's word for metadata that HTTP/2 cannot carry
            logger.exception("job %s could not be sent", job.id)
            asyncio.get_running_loop().call_soon(call.fail, Internal("The request could not be sent to the engine."))
        return call

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        if self._metadata is not None:
            await self._metadata.close()
        await self._channel.close()

    # What a call asks for.

    def send_stop(self, message: bytes) -> None:
        """Fire and forget."""
        self._channel.call(STREAM_INFER, message, _DEAF, timeout=_STOP_TIMEOUT)

    def suspect(self) -> None:
        """A model turned out to be away: look at the server."""
        if self._models is not None:
            self._models.look_soon()
