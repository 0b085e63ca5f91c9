"""Asks a Triton server about its models: are they ready, and what do they declare.

Control calls go over grpc.aio with tritonclient's generated stubs: a second copy of Triton's .proto in one
process is an error, and these calls are few. Two rules: readiness is asked per model and version, because
ServerReady is false during every swap of any model, and for ever after one failed load; and no keepalive,
because a client that pings more often than Triton likes is sent away ("too many pings").

Whatever goes wrong becomes a NotReady with the reason in words.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.engines.triton_interface import ModelInterface, TensorSpec

_TIMEOUT = 5.0  # seconds for one control call
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is not meant for a server that was named here
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.lb_policy_name", "pick_first"),
)


class NotReady(Exception):
    """Why a model cannot be used now. `server`: all models of the server share the reason; `silent`: it did
    not answer in time, which a busy server may not either."""

    def __init__(self, reason: str, *, server: bool = False, silent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.server = server
        self.silent = silent


class MetadataClient:
    """The control calls to one server. Make it on the event loop that it is used on."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._channel = grpc.aio.insecure_channel(where, options=_OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __repr__(self) -> str:
        return f"MetadataClient({self._where})"

    async def read(self, model: str, version: str) -> ModelInterface:
        """The interface of a model that is ready. `version` "" is the server's choice. Errors: NotReady."""
        request = service_pb2.ModelReadyRequest(name=model, version=version)
        ready = await self._ask(self._stub.ModelReady, request, model, version)
        if not ready.ready:
            raise NotReady(await self._why(model, version))
        return await self.describe(model, version)

    async def describe(self, model: str, version: str = "") -> ModelInterface:
        """The interface of a model, ready or not. Errors: NotReady."""
        request = service_pb2.ModelConfigRequest(name=model, version=version)
        answer = await self._ask(self._stub.ModelConfig, request, model, version)
        return read_interface(answer.config, version)

    async def _why(self, model: str, version: str) -> str:
        # The index of the repository knows what is there, and why it was not loaded.
        named, where = _named(model, version), self._where
        try:
            index = await self._ask(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), model, version)
        except NotReady:  # some operators lock this call: then it is only known that the model isn't ready
            return f"{named} is not ready on Triton at {where}"
        found = [entry for entry in index.models if entry.name == model]
        if not found:
            return f"Triton at {where} has no {_named(model, '')}"
        states = {entry.version: f"{entry.state.lower() or 'not loaded'}: {entry.reason}" for entry in found}
        if version and version not in states:
            versions = ", ".join(filter(None, states)) or "none"
            return f"Triton at {where} has no {named}; its versions are {versions}"
        state = states[version] if version else "; ".join(states.values())
        return f"{named} is not ready on Triton at {where}: {state.rstrip(': ')}"

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, method: Any, request: Any, model: str, version: str) -> Any:
        try:
            return await method(request, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise self._reason(error.code(), error.details() or "", _named(model, version)) from None

    def _reason(self, code: grpc.StatusCode, details: str, named: str) -> NotReady:
        where = self._where
        if code is grpc.StatusCode.UNAVAILABLE and "unknown model" not in details:
            return NotReady(f"Triton at {where} cannot be reached", server=True)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return NotReady(f"Triton at {where} did not answer within {_TIMEOUT:g} s", server=True, silent=True)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return NotReady(f"the server at {where} is no Triton server", server=True)
        line = details.split("\n", 1)[0][:200]
        if "unknown model" in details or code is grpc.StatusCode.NOT_FOUND:
            return NotReady(f"Triton at {where} has no {named}: {line}")
        return NotReady(f"Triton at {where} does not tell about {named}: {code.name.lower()}: {line}")


def read_interface(config: Any, version: str = "") -> ModelInterface:
    """The pure picture of a `inference.ModelConfig` message."""
    return ModelInterface(
        name=config.name,
        version=version,
        inputs={tensor.name: _spec(tensor, tensor.optional) for tensor in config.input},
        outputs={tensor.name: _spec(tensor, False) for tensor in config.output},
        max_batch_size=config.max_batch_size,
        decoupled=config.model_transaction_policy.decoupled,
        platform=config.platform,
        backend=config.backend,
        parameters={name: value.string_value for name, value in config.parameters.items()},
        steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
    )


def _spec(tensor: Any, optional: bool) -> TensorSpec:
    name = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return TensorSpec("BYTES" if name == "STRING" else name, tuple(tensor.dims), optional)


def _named(model: str, version: str) -> str:
    return f"model '{model}' version {version}" if version else f"model '{model}'"
