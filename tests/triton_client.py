"""A Triton client for tests: one ModelStreamInfer call per request, every response with all it carries.

tritonclient's own client hides empty final responses, ids and error codes, which are what the tests look
at; so its generated stubs are used directly.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

Value = str | bytes | int | float | bool | Sequence[str]

_INT32 = {"max_tokens", "top_k", "min_tokens", "end_id", "request_output_len", "input_lengths", "input_ids",
          "sampling_param_max_tokens", "sampling_param_top_k"}  # fmt: skip
_NUMPY = {"INT32": np.int32, "FP32": np.float32, "UINT64": np.uint64, "INT64": np.int64, "BOOL": np.bool_}


@dataclass
class Response:
    """One message of a stream. `outputs` hold lists: str for BYTES that are UTF-8, else bytes."""

    id: str = ""
    error: str = ""
    final: bool = False
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def raw_text(self) -> bytes:
        """text_output, undecoded; empty if there is none."""
        values = self.outputs.get("text_output", [b""])
        return values[0].encode() if isinstance(values[0], str) else values[0]


@dataclass
class Answer:
    """All messages of one request."""

    responses: list[Response]

    @property
    def text(self) -> str:
        """The parts of the text, joined (not meant for cumulative contracts)."""
        return b"".join(response.raw_text for response in self.responses).decode()

    @property
    def error(self) -> str:
        """The first error, or nothing."""
        return next((response.error for response in self.responses if response.error), "")

    @property
    def finish(self) -> str | None:
        """The last finish reason that was sent."""
        found: list[str] = self.joined("finish_reason")
        return found[-1] if found else None

    def joined(self, name: str) -> list[Any]:
        """The values of an output, over all responses."""
        return [value for response in self.responses for value in response.outputs.get(name, [])]

    def total(self, name: str) -> int:
        """The sum of an output over all responses."""
        return sum(self.joined(name))


class Client:
    """Talks to one Triton. Scalars are sent as [1, 1] and lists as [1, N], without batch as [1] and [N]."""

    def __init__(self, address: str, *, batched: bool = True) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        )
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._batched = batched

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def call(
        self,
        model: str,
        inputs: Mapping[str, Value],
        *,
        version: str = "",
        request_id: str = "",
        timeout: float | None = 60.0,
    ) -> grpc.aio.StreamStreamCall[Any, Any]:
        """Start a request; cancel the call to cancel it, iterate over it with `responses`."""
        request = self.request(model, inputs, version=version, request_id=request_id)

        async def one() -> AsyncIterator[Any]:
            yield request

        return self.stub.ModelStreamInfer(one(), timeout=timeout)

    def request(self, model: str, inputs: Mapping[str, Value], *, version: str = "", request_id: str = "") -> Any:
        """The message for one request."""
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=request_id)
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        for name, value in inputs.items():
            kind, count, raw = _encoded(name, value)
            shape = [1, count] if self._batched else [count]
            request.inputs.add(name=name, datatype=kind, shape=shape)
            request.raw_input_contents.append(raw)
        return request

    async def infer(self, model: str, inputs: Mapping[str, Value], **options: Any) -> Answer:
        """Send a request and collect every response."""
        return Answer([response async for response in responses(self.call(model, inputs, **options))])


async def responses(call: grpc.aio.StreamStreamCall[Any, Any]) -> AsyncIterator[Response]:
    """The messages of a call, decoded, until it ends."""
    async for message in call:
        yield _decoded(message)


def _encoded(name: str, value: Value) -> tuple[str, int, bytes]:
    if isinstance(value, bool):
        return "BOOL", 1, np.array([value]).tobytes()
    if name in ("seed", "sampling_param_seed"):
        return "UINT64", 1, np.array([value], np.uint64).tobytes()
    if isinstance(value, int) and name in _INT32:
        return "INT32", 1, np.array([value], np.int32).tobytes()
    if isinstance(value, int | float):
        return "FP32", 1, np.array([value], np.float32).tobytes()
    texts = [value] if isinstance(value, str | bytes) else list(value)
    raws = [text.encode() if isinstance(text, str) else text for text in texts]
    return "BYTES", len(raws), b"".join(struct.pack("<I", len(raw)) + raw for raw in raws)


def _decoded(message: Any) -> Response:
    reply = message.infer_response
    response = Response(id=reply.id, error=message.error_message)
    response.final = reply.parameters["triton_final_response"].bool_param
    for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        response.shapes[tensor.name] = tuple(tensor.shape)
        if tensor.datatype == "BYTES":
            response.outputs[tensor.name] = _strings(raw)
        else:
            response.outputs[tensor.name] = np.frombuffer(raw, _NUMPY[tensor.datatype]).tolist()
    return response


def _strings(raw: bytes) -> list[str | bytes]:
    found: list[str | bytes] = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        item, raw = raw[4 : 4 + size], raw[4 + size :]
        try:
            found.append(item.decode())
        except UnicodeDecodeError:
            found.append(item)
    return found
