"""Is Triton ready? Asked over gRPC, model by model.

ServerReady isn't asked: it is false during every model swap, and for ever after one failed load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

_RETRY_S = 0.02
_CALL_LIMIT_S = 5.0


async def wait_until_ready(host: str, port: int, names: Sequence[str]) -> None:
    """Return once every version of every named model is ready; asks until then, or until cancelled."""
    await _wait_until_listening(host, port)
    # Only now: importing grpc takes a good part of a second, during which Triton has been loading.
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while True:
            try:
                index = await triton.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=_CALL_LIMIT_S)
                versions = [(m.name, m.version) for m in index.models if m.name in names and m.version]
                if {name for name, _ in versions} == set(names):
                    answers = [
                        await triton.ModelReady(
                            service_pb2.ModelReadyRequest(name=name, version=version), timeout=_CALL_LIMIT_S
                        )
                        for name, version in versions
                    ]
                    if all(answer.ready for answer in answers):
                        return
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            await asyncio.sleep(_RETRY_S)


async def _wait_until_listening(host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(_RETRY_S)
        else:
            writer.close()
            return
