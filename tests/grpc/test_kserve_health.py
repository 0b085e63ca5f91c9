"""How a gateway's health looks to stock tritonclient, and to a client that has nothing but reflection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from msgspec.structs import replace
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2
from tritonclient.utils import InferenceServerException

from gateway import __version__
from tests.grpc.serving import GrpcGateway, refusal_of
from tests.grpc.test_standard_services import KEYS
from tests.inprocess import WAIT_S, endpoint

SERVICE = "inference.GRPCInferenceService"


@contextmanager
def triton(one: GrpcGateway) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(f"127.0.0.1:{one.face.port}")
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def gateway() -> Iterator[GrpcGateway]:
    split = {"v1": 1.0, "v2": 0.0, "v3": 0.0}
    assistant = replace(endpoint("assistant", *split, split=split), disabled=("v3",))
    with GrpcGateway(("a",), assistant, endpoint("org/big"), endpoint("other")) as one:
        yield one


@pytest.fixture(scope="module")
def client(gateway: GrpcGateway) -> Iterator[InferenceServerClient]:
    with triton(gateway) as client:
        yield client


@pytest.fixture(scope="module")
def locked() -> Iterator[GrpcGateway]:
    with GrpcGateway(("a",), endpoint("assistant"), endpoint("other"), keyring=KEYS) as one:
        yield one


NAMES = [
    ("assistant", ""),
    ("assistant", "v1"),
    ("assistant", "v2"),
    ("assistant", "v3"),
    ("assistant@v1", ""),
    ("assistant@v2", "v2"),
    ("org/big", ""),
    ("org/big@v1", ""),
]

# The versions that are not ready; then whether the server is, and which of NAMES.
STATES: list[tuple[set[str], bool, str]] = [
    (set(), True, "yes yes yes no yes yes yes yes"),
    ({"assistant@v2"}, True, "yes yes no no yes no yes yes"),  # it has no traffic
    ({"assistant@v3"}, True, "yes yes yes no yes yes yes yes"),
    ({"assistant@v1"}, False, "no no yes no no yes yes yes"),
    ({"org/big@v1"}, False, "yes yes yes no yes yes no no"),
    ({"other@v1"}, False, "yes yes yes no yes yes yes yes"),
]


@pytest.mark.parametrize(("not_ready", "server", "models"), STATES)
def test_readiness(
    gateway: GrpcGateway, client: InferenceServerClient, not_ready: set[str], server: bool, models: str
) -> None:
    gateway.engine.not_ready = dict.fromkeys(not_ready, "loading")
    try:
        assert client.is_server_live(client_timeout=WAIT_S) is True
        assert client.is_server_ready(client_timeout=WAIT_S) is server
        found = [client.is_model_ready(*name, client_timeout=WAIT_S) for name in NAMES]
        assert dict(zip(NAMES, found, strict=True)) == dict(
            zip(NAMES, [word == "yes" for word in models.split()], strict=True)
        )
    finally:
        gateway.engine.not_ready = {}


def test_a_new_snapshot_is_seen_at_once() -> None:
    with GrpcGateway(("a",), endpoint("assistant", "v1", "v2", split={"v1": 1.0, "v2": 0.0})) as one:
        one.engine.not_ready = {"assistant@v2": "loading"}
        with triton(one) as client:
            assert client.is_model_ready("assistant", client_timeout=WAIT_S)
            snapshot = one.service.snapshot
            moved = replace(snapshot.endpoints["assistant"], split={"v1": 1.0, "v2": 1.0})
            one.service.snapshot = replace(snapshot, endpoints={"assistant": moved})
            assert not client.is_model_ready("assistant", client_timeout=WAIT_S)
            assert not client.is_server_ready(client_timeout=WAIT_S)


# Name and version, the code, the field at fault, and what the message must say.
UNKNOWN = [
    ("asistant", "", "NOT_FOUND", "name", "did you mean 'assistant'?"),
    ("asistant", "v1", "NOT_FOUND", "name", "did you mean 'assistant'?"),
    ("x", "", "NOT_FOUND", "name", "known models: assistant, org/big, other"),
    ("", "", "NOT_FOUND", "name", "known models: assistant, org/big, other"),
    ("assistant", "v9", "NOT_FOUND", "version", "no version 'v9'; it has v1, v2, v3"),
    ("assistant@v9", "", "NOT_FOUND", "name", "no version 'v9'; it has v1, v2, v3"),
    ("assistant@", "", "NOT_FOUND", "name", "no version ''"),
    ("assistant@v1", "v2", "INVALID_ARGUMENT", "version", 'is "v2", but the name is "assistant@v1"; send one'),
]


@pytest.mark.parametrize(("name", "version", "code", "param", "words"), UNKNOWN)
def test_what_is_not_there(
    gateway: GrpcGateway, client: InferenceServerClient, name: str, version: str, code: str, param: str, words: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.is_model_ready(name, version, client_timeout=WAIT_S)
    assert refused.value.status() == f"StatusCode.{code}"
    assert words in refused.value.message()
    refusal = refused_call(gateway, "ModelReady", service_pb2.ModelReadyRequest(name=name, version=version))
    assert (refusal.code.name, refusal.param) == (code, param)


def test_a_message_that_is_none(gateway: GrpcGateway) -> None:
    refusal = refused_call(gateway, "ModelReady", b"\xff", (("x-request-id", "r-1"),))
    assert (refusal.code, refusal.trailing["x-request-id"]) == (grpc.StatusCode.INVALID_ARGUMENT, "r-1")
    assert refusal.info.metadata["request_id"] == "r-1"
    assert "inference.ModelReadyRequest" in refusal.message


def test_server_metadata(client: InferenceServerClient) -> None:
    found = client.get_server_metadata(client_timeout=WAIT_S)
    assert (found.name, found.version, list(found.extensions)) == ("penstock", __version__, [])


def test_what_is_not_offered_says_so(gateway: GrpcGateway, client: InferenceServerClient) -> None:
    tensor = InferInput("text_input", [1], "BYTES")
    for call in (
        lambda: client.infer("assistant", [tensor], client_timeout=WAIT_S),
        lambda: client.get_model_metadata("assistant", client_timeout=WAIT_S),
        lambda: client.load_model("assistant", client_timeout=WAIT_S),
    ):
        with pytest.raises(InferenceServerException) as refused:
            call()
        assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
        assert "inference over KServe is yet to come" in refused.value.message()
    offered = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata"}
    others = set(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name) - offered
    assert {"ModelInfer", "ModelStreamInfer", "RepositoryModelUnload"} < others
    for method in others:
        refusal = refused_call(gateway, method, b"")
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_ALLOWED")
        assert refusal.message.startswith(f"{method} is not offered")
    streamed = gateway.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([b"", b""]), timeout=WAIT_S)
    with pytest.raises(grpc.RpcError) as ended:
        list(streamed)
    assert refusal_of(ended.value).message.startswith("ModelStreamInfer is not offered")
    assert gateway.engine.calls == []


@pytest.mark.parametrize(
    ("key", "open_to", "code"),
    [
        ("key-of-all", ["assistant", "other"], None),
        ("key-of-one", ["other"], "NOT_FOUND"),
        ("wrong", [], "UNAUTHENTICATED"),
        (None, [], "UNAUTHENTICATED"),
    ],
)
def test_keys(locked: GrpcGateway, key: str | None, open_to: list[str], code: str | None) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with triton(locked) as client:
        assert client.is_server_live(headers, client_timeout=WAIT_S)
        assert client.is_server_ready(headers, client_timeout=WAIT_S)
        for name in ("assistant", "other"):
            if name in open_to:
                assert client.is_model_ready(name, headers=headers, client_timeout=WAIT_S)
            else:
                with pytest.raises(InferenceServerException) as refused:
                    client.is_model_ready(name, headers=headers, client_timeout=WAIT_S)
                assert refused.value.status() == f"StatusCode.{code}"
                assert "known models: assistant" not in refused.value.message()
        if open_to:
            assert client.get_server_metadata(headers, client_timeout=WAIT_S).name == "penstock"
        else:
            with pytest.raises(InferenceServerException) as refused:
                client.get_server_metadata(headers, client_timeout=WAIT_S)
            assert refused.value.status() == "StatusCode.UNAUTHENTICATED"


# What a client asks that knows a service's name only, and the field of the answer: while ready, and while not.
REFLECTED = [
    ("grpc.health.v1.Health", "Check", {}, "status", 1, 2),
    ("grpc.health.v1.Health", "Check", {"service": "assistant"}, "status", 1, 2),
    (SERVICE, "ServerReady", {}, "ready", True, False),
    (SERVICE, "ModelReady", {"name": "assistant", "version": "v1"}, "ready", True, False),
]


@pytest.mark.parametrize(("service", "method", "fields", "answer", "ready", "not_ready"), REFLECTED)
def test_a_client_that_knows_reflection_only(
    gateway: GrpcGateway, service: str, method: str, fields: dict[str, str], answer: str, ready: Any, not_ready: Any
) -> None:
    found = ProtoReflectionDescriptorDatabase(gateway.channel)
    assert service in found.get_services()
    described = DescriptorPool(found).FindServiceByName(service).FindMethodByName(method)
    message = GetMessageClass(described.input_type)
    assert message not in (service_pb2.ServerReadyRequest, service_pb2.ModelReadyRequest)
    call = gateway.channel.unary_unary(
        f"/{described.containing_service.full_name}/{described.name}",
        request_serializer=message.SerializeToString,
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )
    assert getattr(call(message(**fields), timeout=WAIT_S), answer) == ready
    try:
        gateway.engine.not_ready = {"assistant@v1": "loading"}
        gateway.on_loop(gateway.face.update)
        assert getattr(call(message(**fields), timeout=WAIT_S), answer) == not_ready
    finally:
        gateway.engine.not_ready = {}
        gateway.on_loop(gateway.face.update)


def refused_call(gateway: GrpcGateway, method: str, message: Any, metadata: Any = ()) -> Any:
    """The refusal of a call that must fail; `message` may be bare bytes."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    with pytest.raises(grpc.RpcError) as refused:
        gateway.channel.unary_unary(f"/{SERVICE}/{method}")(data, metadata=metadata, timeout=WAIT_S)
    return refusal_of(refused.value)
