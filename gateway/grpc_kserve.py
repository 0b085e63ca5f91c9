"""KServe v2's health over gRPC, so that `tritonclient`, and what watches a Triton server, can watch a gateway.

A model is an endpoint here, and a model's version one of its versions. ServerLive and ServerReady ask for no key, as
/health and /ready over HTTP; the others tell what is behind the gateway, so they ask for one where it has keys, and
what a key may not use does not exist. The service's other methods say that they are not offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb  # for the engine's control calls it is in the worker anyway

from gateway import __version__
from gateway.core.errors import BadRequest, MethodNotAllowed, NotFound, PenstockError
from gateway.dialects.openai_fields import shown
from gateway.grpc_caller import Caller
from gateway.keys import identify, visible
from gateway.routing.resolve import find_endpoint, route

if TYPE_CHECKING:
    from gateway.routing.version import Endpoint
    from gateway.service import Service

    Context = grpc.aio.ServicerContext[bytes, bytes]
    # The message that answers the bytes of a request and an authorization. Errors: PenstockError.
    Answer = Callable[[bytes, str | None], Any]

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE: str = _SERVICE.full_name
NAME = "penstock"


class KServeHealth:
    """The handlers of the service. They answer from the live snapshot and wait for nothing."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        answers: dict[str, Answer] = {
            "ServerLive": lambda _, __: pb.ServerLiveResponse(live=True),
            "ServerReady": lambda _, __: pb.ServerReadyResponse(ready=self._all_ready()),
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for name in _SERVICE.methods_by_name:
            if name in answers:
                handlers[name] = grpc.unary_unary_rpc_method_handler(self._unary(answers[name]))
            else:  # nothing of the call is read, so this kind does for unary ones too
                handlers[name] = grpc.stream_stream_rpc_method_handler(self._not_offered(name, tuple(answers)))
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    # The answers

    def _all_ready(self) -> bool:
        return all(map(self._service.ready, self._service.snapshot.endpoints.values()))

    def _model_ready(self, data: bytes, authorization: str | None) -> Any:
        key = identify(self._service.keyring, authorization)
        try:
            asked = pb.ModelReadyRequest.FromString(data)
        except DecodeError:
            raise BadRequest("The message is no inference.ModelReadyRequest; send one.") from None
        field = "name"
        try:
            endpoint, pin = find_endpoint(visible(self._service.snapshot.endpoints, key.allowed), asked.name)
            if pin is None and asked.version:
                field, pin = "version", asked.version
            if asked.version and pin != asked.version:
                raise BadRequest(
                    f"version: is {shown(asked.version)}, but the name is {shown(asked.name)}; send one of them.",
                    param="version",
                )
            return pb.ModelReadyResponse(
                ready=self._service.ready(endpoint) if pin is None else self._can_answer(endpoint, pin)
            )
        except NotFound as error:
            error.param = field  # what our own dialects call `model`
            raise

    def _can_answer(self, endpoint: Endpoint, pin: str) -> bool:
        if pin in endpoint.disabled:  # it is known, so it is not ready, until someone enables it
            return False
        return self._service.engine.readiness(route(endpoint, pin, None, "").version).ready

    def _server_metadata(self, _: bytes, authorization: str | None) -> Any:
        identify(self._service.keyring, authorization)
        return pb.ServerMetadataResponse(name=NAME, version=__version__)

    # The calls

    def _unary(self, answer: Answer) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def call(data: bytes, context: Context) -> bytes:
            caller = Caller(context, self._service.next_id)
            try:
                message = answer(data, caller.header("authorization"))
            except PenstockError as error:
                await caller.abort(context, error)
            await context.send_initial_metadata(caller.initial)
            encoded: bytes = message.SerializeToString()
            return encoded

        return call

    def _not_offered(self, name: str, offered: tuple[str, ...]) -> Callable[[Any, Context], Awaitable[None]]:
        error = MethodNotAllowed(
            f"{name} is not offered: inference over KServe is yet to come, and of this service there are only "
            f"{', '.join(offered)}. For inference call penstock.v1.Inference here, or the OpenAI API over HTTP."
        )

        async def call(_: Any, context: Context) -> None:
            await Caller(context, self._service.next_id).abort(context, error)

        return call
