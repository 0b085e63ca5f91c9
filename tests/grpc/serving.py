"""The gRPC face over a scripted engine in this process, and a stock client's view of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gateway.grpc_app import GrpcFace
from penstock.v1 import inference_pb2 as pb
from penstock.v1 import inference_pb2_grpc
from tests.inprocess import WAIT_S, Gateway

Metadata = Sequence[tuple[str, str]]


class GrpcGateway(Gateway):
    """The gateway of the HTTP tests with its gRPC face. `stub` is a client on a channel of its own."""

    face: GrpcFace

    def __enter__(self) -> GrpcGateway:
        super().__enter__()
        self.on_loop(self._start)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.face.port}")
        self.stub = inference_pb2_grpc.InferenceStub(self.channel)
        return self

    def __exit__(self, *details: object) -> None:
        self.channel.close()
        self.on_loop(lambda: self.face.close(0))
        super().__exit__(*details)

    async def _start(self) -> None:
        self.face = GrpcFace("127.0.0.1:0", self.service, self.limits)
        await self.face.start()
        await self.face.update()

    def generate(
        self, request: pb.GenerateRequest, metadata: Metadata = (), timeout: float = WAIT_S
    ) -> pb.GenerateResponse:
        return self.stub.Generate(request, metadata=metadata, timeout=timeout)

    def stream(self, request: pb.GenerateRequest, metadata: Metadata = (), timeout: float = WAIT_S) -> Any:
        """The call: an iterator of events that has `cancel` and metadata."""
        return self.stub.GenerateStream(request, metadata=metadata, timeout=timeout)

    def refusal(self, request: pb.GenerateRequest, metadata: Metadata = (), *, stream: bool = False) -> Refusal:
        """Of a call that must fail."""
        try:
            list(self.stream(request, metadata)) if stream else self.generate(request, metadata)
        except grpc.RpcError as error:
            return refusal_of(error)
        raise AssertionError("the call was answered")

    @property
    def record(self) -> Any:
        """The one record since the last look."""
        self.idle()
        self.until(lambda: self.records)
        (record,) = self.records
        self.records.clear()
        return record


class Refusal(NamedTuple):
    code: grpc.StatusCode
    reason: str
    param: str | None
    message: str
    info: error_details_pb2.ErrorInfo
    retry_after: float | None
    trailing: dict[str, str]


def refusal_of(error: Any) -> Refusal:
    """What the status of a failed call says. Fails where the details are not in it."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "penstock"
    later = [detail for detail in status.details[1:] if detail.Unpack(retry)]
    trailing = {key: value for key, value in error.trailing_metadata() if isinstance(value, str)}
    return Refusal(
        error.code(),
        info.reason,
        info.metadata.get("param"),
        error.details(),
        info,
        retry.retry_delay.ToNanoseconds() / 1e9 if later else None,
        trailing,
    )


def chat(text: str, model: str = "assistant", **fields: Any) -> pb.GenerateRequest:
    """A request of one user message."""
    return pb.GenerateRequest(model=model, messages=[pb.Message(role="user", content=text)], **fields)


def events(call: Iterator[pb.GenerateStreamResponse]) -> list[tuple[str, Any]]:
    """All events of a stream, each with its kind."""
    return [(str(event.WhichOneof("event")), getattr(event, str(event.WhichOneof("event")))) for event in call]
