"""The gRPC face: for now the standard health service, so that internal services and probes can look.

`grpc.health.v1.Health` answers for the gateway as a whole ("") and for each endpoint by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

if TYPE_CHECKING:
    from gateway.serve import Service


class GrpcFace:
    """A gRPC server on `address` (host:port), shared with the other workers through SO_REUSEPORT."""

    def __init__(self, address: str, service: Service) -> None:
        self._service = service
        self._health = health.HealthServicer()
        self._known: dict[str, bool] = {}
        self._address = address
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Errors: RuntimeError when the address can't be bound."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def update(self) -> None:
        """Take over the versions' readiness."""
        states = {
            endpoint.name: all(
                self._service.engine.readiness(version).ready
                for name, version in endpoint.versions.items()
                if endpoint.split.get(name, 0) > 0
            )
            for endpoint in self._service.snapshot.endpoints.values()
        }
        states[""] = all(states.values())
        for name, ready in states.items():
            if self._known.get(name) != ready:
                serving = (
                    health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
                )
                await self._health.set(name, serving)
        self._known = states

    async def close(self) -> None:
        """Take no more calls and end."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(1)
