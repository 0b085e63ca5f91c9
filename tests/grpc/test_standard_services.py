"""Health, reflection, and the doors for keys and traces."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.config.settings import KeyConfig
from gateway.keys import Keyring
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
            "inference.GRPCInferenceService",
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


KEYS = Keyring(
    [
        KeyConfig("all", sha256(b"key-of-all").hexdigest()),
        KeyConfig("one", sha256(b"key-of-one").hexdigest(), ("other",)),
    ]
)


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


@pytest.fixture(scope="module")
def locked() -> Iterator[GrpcGateway]:
    with GrpcGateway(("a",), endpoint("assistant"), endpoint("other")) as one:
        one.service.keyring = KEYS
        yield one


def test_a_key_opens_what_it_may_use(locked: GrpcGateway) -> None:
    for key, name, model in (("key-of-all", "all", "assistant"), ("key-of-one", "one", "other")):
        assert locked.generate(chat("x", model), bearer(key)).choices[0].text == "a"
        assert locked.record.api_key == name
    refusal = locked.refusal(chat("x", "assistant"), bearer("key-of-one"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    record = locked.record
    assert (record.outcome, record.api_key) == ("refused", "one")


@pytest.mark.parametrize("metadata", [[], bearer("wrong"), [("authorization", "Basic key-of-all")]])
def test_nothing_opens_without_a_key(locked: GrpcGateway, metadata: list[tuple[str, str]]) -> None:
    locked.records.clear()
    jobs = len(locked.engine.calls)
    for stream in (False, True):
        refusal = locked.refusal(chat("x"), metadata, stream=stream)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_API_KEY")
        assert locked.record.outcome == "refused"
    with pytest.raises(grpc.RpcError) as refused:
        locked.stub.ListEndpoints(pb.ListEndpointsRequest(), metadata=metadata, timeout=WAIT_S)
    assert refusal_of(refused.value).reason == "INVALID_API_KEY"
    assert len(locked.engine.calls) == jobs
    stub = health_pb2_grpc.HealthStub(locked.channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S).status == SERVING


def test_a_list_has_what_the_key_may_use(locked: GrpcGateway) -> None:
    for key, names in (("key-of-all", ["assistant", "other"]), ("key-of-one", ["other"])):
        listed = locked.stub.ListEndpoints(pb.ListEndpointsRequest(), metadata=bearer(key), timeout=WAIT_S)
        assert [one.name for one in listed.endpoints] == names


def test_traces() -> None:
    trace, span = "a" * 32, "b" * 16
    sent = [("traceparent", f"00-{trace}-{span}-01"), ("tracestate", "a=b")]
    with GrpcGateway(("a",)) as one:
        one.generate(chat("x"), sent)
        found = one.record.trace
        assert (found.trace, found.parent, found.sampled, found.state) == (trace, span, True, "a=b")
        one.generate(chat("x"))
        assert one.record.trace is None
        one.refusal(chat("x", "nobody"), sent)
        assert one.record.trace.trace == trace
