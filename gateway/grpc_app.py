"""The gRPC face: penstock.v1.Inference, and the standard services that go with it: health and reflection.

`grpc.health.v1.Health` answers for the gateway as a whole (""), for the Inference service, and for each endpoint
by name. Health and reflection ask for no key, as /health and /ready over HTTP.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from gateway.grpc_inference import SERVICE, InferenceService
from gateway.grpc_kserve import SERVICE as KSERVE
from gateway.grpc_kserve import KServeHealth

if TYPE_CHECKING:
    from gateway.config import LimitsConfig
    from gateway.service import Service

# How long the last words of calls that were ended may take, and connections that only watch may stay.
FAREWELL_S = 1.0
# Callers may ask this often whether we live; gRPC's own rule of five minutes cuts off honest ones.
MIN_PING_MS = 5_000


class GrpcFace:
    """A gRPC server on `address` (host:port), shared with the other workers through SO_REUSEPORT.

    `port` is known after `start`.
    """

    def __init__(self, address: str, service: Service, limits: LimitsConfig) -> None:
        self._service = service
        self._limits = limits
        self._inference = InferenceService(
            service, body_bytes=limits.body_bytes, buffer_bytes=limits.client_buffer_bytes
        )
        self._health = health.HealthServicer()
        self._known: dict[str, bool] = {}
        self._address = address
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Errors: RuntimeError when the address can't be bound."""
        self._server = grpc.aio.server(options=self._options())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._inference.handler(), KServeHealth(self._service).handler()))
        reflection.enable_server_reflection((SERVICE, KSERVE, HEALTH, reflection.SERVICE_NAME), self._server)
        self.port = self._server.add_insecure_port(self._address)
        await self._server.start()

    async def update(self) -> None:
        """Take over the versions' readiness."""
        states = {
            endpoint.name: self._service.ready(endpoint) for endpoint in self._service.snapshot.endpoints.values()
        }
        states[""] = states[SERVICE] = all(states.values())
        for name, ready in states.items():
            if self._known.get(name) != ready:
                serving = (
                    health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
                )
                await self._health.set(name, serving)
        self._known = states

    async def close(self, grace_s: float = 1.0) -> None:
        """Drain: take no more calls; those under way have `grace_s` seconds, then they end with UNAVAILABLE."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        stopped = asyncio.ensure_future(self._server.stop(grace_s + 2 * FAREWELL_S))
        if not await self._inference.idle(grace_s):
            self._inference.end_calls()
            await self._inference.idle(FAREWELL_S)
        await self._server.stop(FAREWELL_S)
        await stopped

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.so_reuseport", 1),
            # A message over the limit is refused and recorded by us; one far over it by gRPC, which reads none of it.
            ("grpc.max_receive_message_length", 2 * limits.body_bytes),
            ("grpc.max_metadata_size", limits.header_bytes),
            ("grpc.absolute_max_metadata_size", limits.header_bytes),
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_MS),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
