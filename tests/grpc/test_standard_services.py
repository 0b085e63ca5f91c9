"""Health, reflection, and the doors for keys and traces."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.core.errors import PenstockError
from gateway.journal.record import Trace
from penstock.v1 import inference_pb2 as pb
from tests.grpc.serving import GrpcGateway, chat, refusal_of
from tests.inprocess import WAIT_S, endpoint

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_client_that_knows_reflection_only() -> None:
    with GrpcGateway(("Hello", " world")) as one:
        found = ProtoReflectionDescriptorDatabase(one.channel)
        services = set(found.get_services())
        assert services == {
            "penstock.v1.Inference",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        method = DescriptorPool(found).FindServiceByName("penstock.v1.Inference").FindMethodByName("Generate")
        ask, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        assert ask is not pb.GenerateRequest
        call = one.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=ask.SerializeToString,
            response_deserializer=answer.FromString,
        )
        request: Any = ask()
        request.model = "assistant"
        request.messages.add(role="user", content="hi")
        assert call(request, timeout=WAIT_S).choices[0].text == "Hello world"


def test_health() -> None:
    with GrpcGateway(("a",), endpoint("assistant"), endpoint("other")) as one:
        stub = health_pb2_grpc.HealthStub(one.channel)

        def status(name: str) -> Any:
            return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT_S).status

        names = ("", "penstock.v1.Inference", "assistant", "other")
        assert [status(name) for name in names] == [SERVING] * 4
        one.engine.not_ready["other@v1"] = "loading"
        one.on_loop(one.face.update)
        assert [status(name) for name in names] == [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING]
        with pytest.raises(grpc.RpcError) as unknown:
            status("nobody")
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watcher_hears_of_the_drain_and_does_not_hold_it() -> None:
    with GrpcGateway(("a",)) as one:
        watch = health_pb2_grpc.HealthStub(one.channel).Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert next(watch).status == SERVING
        one.on_loop(lambda: one.face.close(WAIT_S))
        assert next(watch).status == NOT_SERVING


class BadKey(PenstockError):
    """As the keys' own error will be."""

    status, grpc, type, code = 401, 16, "invalid_request_error", "invalid_api_key"


def authenticate(authorization: str | None) -> str:
    if authorization != "Bearer right":
        raise BadKey("The key is not known; send another.")
    return "ann's"


def test_keys() -> None:
    with GrpcGateway(("a",), face={"authenticate": authenticate}) as one:
        right = [("authorization", "Bearer right")]
        assert one.generate(chat("x"), right).choices[0].text == "a"
        assert one.record.api_key == "ann's"
        assert one.stub.ListEndpoints(pb.ListEndpointsRequest(), metadata=right, timeout=WAIT_S).endpoints
        for metadata in ([], [("authorization", "Bearer wrong")]):
            for stream in (False, True):
                refusal = one.refusal(chat("x"), metadata, stream=stream)
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_API_KEY")
                assert (one.record.outcome, len(one.engine.calls)) == ("refused", 1)
            with pytest.raises(grpc.RpcError) as refused:
                one.stub.ListEndpoints(pb.ListEndpointsRequest(), metadata=metadata, timeout=WAIT_S)
            assert refusal_of(refused.value).reason == "INVALID_API_KEY"
        stub = health_pb2_grpc.HealthStub(one.channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S).status == SERVING


def test_traces() -> None:
    def trace(traceparent: str | None, tracestate: str | None) -> Trace | None:
        return Trace(traceparent, "span", state=tracestate or "") if traceparent else None

    with GrpcGateway(("a",), face={"trace": trace}) as one:
        one.generate(chat("x"), [("traceparent", "00-t"), ("tracestate", "a=b")])
        assert one.record.trace == Trace("00-t", "span", state="a=b")
        one.generate(chat("x"))
        assert one.record.trace is None
        one.refusal(chat("x", "nobody"), [("traceparent", "00-t")])
        assert one.record.trace == Trace("00-t", "span")
