"""ModelConfig → interface, and what the control calls say when a server is not as it should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.engines.triton_interface import TensorSpec
from gateway.engines.triton_metadata import MetadataClient, NotReady, read_interface

CONFIG = """
name: "ensemble"
platform: "ensemble"
max_batch_size: 64
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "stop_words" data_type: TYPE_STRING dims: [ -1 ] optional: true },
  { name: "return_log_probs" data_type: TYPE_BOOL dims: [ 1 ] reshape: { shape: [ ] } optional: true },
  { name: "lora_config" data_type: TYPE_INT32 dims: [ -1, 3 ] optional: true allow_ragged_batch: true }
]
output [ { name: "output_log_probs" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
parameters [
  { key: "accumulate_tokens" value: { string_value: "True" } },
  { key: "tensorrt_llm_model_name" value: { string_value: "${tensorrt_llm_model_name}" } }
]
ensemble_scheduling { step [ { model_name: "preprocessing" }, { model_name: "tensorrt_llm" } ] }
"""


def test_a_config_becomes_an_interface() -> None:
    interface = read_interface(text_format.Parse(CONFIG, model_config_pb2.ModelConfig()), "2")
    assert (interface.name, interface.version, interface.platform) == ("ensemble", "2", "ensemble")
    assert interface.inputs == {
        "text_input": TensorSpec("BYTES", (1,)),
        "stop_words": TensorSpec("BYTES", (-1,), True),
        "return_log_probs": TensorSpec("BOOL", (1,), True),
        "lora_config": TensorSpec("INT32", (-1, 3), True),
    }
    assert interface.outputs == {"output_log_probs": TensorSpec("FP32", (-1, -1))}
    assert interface.steps == ("preprocessing", "tensorrt_llm")
    assert interface.batched
    assert interface.ensemble
    assert interface.streams
    assert not interface.decoupled
    assert interface.flag("accumulate_tokens")
    assert interface.parameter("tensorrt_llm_model_name") == "", "a placeholder that nobody filled in"
    assert interface.parameter("no_such") == ""


def test_a_model_without_a_batch_dimension() -> None:
    config = 'name: "m" backend: "python" model_transaction_policy { decoupled: true }'
    interface = read_interface(text_format.Parse(config, model_config_pb2.ModelConfig()))
    assert (interface.batched, interface.decoupled, interface.streams, interface.backend) == (
        False,
        True,
        True,
        "python",
    )
    assert interface == read_interface(text_format.Parse(config, model_config_pb2.ModelConfig()))


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A server that answers as it is told: a status to refuse with, or a state."""

    refuse: tuple[grpc.StatusCode, str] | None = None
    refuse_index = False
    ready = True
    models: tuple[tuple[str, str, str, str], ...] = ()

    async def ModelReady(self, request: Any, context: Any) -> Any:
        if self.refuse:
            await context.abort(*self.refuse)
        return service_pb2.ModelReadyResponse(ready=self.ready)

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=model_config_pb2.ModelConfig(name=request.name))

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        if self.refuse_index:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "locked")
        entry = service_pb2.RepositoryIndexResponse.ModelIndex
        return service_pb2.RepositoryIndexResponse(
            models=[entry(name=n, version=v, state=s, reason=r) for n, v, s, r in self.models]
        )


@pytest_asyncio.fixture
async def played() -> AsyncIterator[tuple[Servicer, MetadataClient]]:
    servicer, server = Servicer(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    client = MetadataClient(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    yield servicer, client
    await client.close()
    await server.stop(None)


@pytest.mark.asyncio
async def test_a_model_that_is_ready(played: tuple[Servicer, MetadataClient]) -> None:
    interface = await played[1].read("m", "3")
    assert (interface.name, interface.version) == ("m", "3")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("models", "version", "reason"),
    [
        ((), "", "has no model 'm'"),
        ((("other", "1", "READY", ""),), "", "has no model 'm'"),
        ((("m", "1", "READY", ""), ("m", "2", "READY", "")), "3", "has no model 'm' version 3; its versions are 1, 2"),
        ((("m", "", "", ""),), "3", "has no model 'm' version 3; its versions are none"),
        (
            (("m", "1", "UNAVAILABLE", "it broke"),),
            "",
            "'m' is not ready on Triton at 127.0.0.1:*: unavailable: it broke",
        ),
        ((("m", "1", "LOADING", ""),), "1", "'m' version 1 is not ready on Triton at 127.0.0.1:*: loading"),
        ((("m", "", "", ""),), "", "'m' is not ready on Triton at 127.0.0.1:*: not loaded"),
    ],
)
async def test_why_a_model_is_not_ready(
    played: tuple[Servicer, MetadataClient], models: Any, version: str, reason: str
) -> None:
    servicer, client = played
    servicer.ready, servicer.models = False, models
    with pytest.raises(NotReady) as caught:
        await client.read("m", version)
    assert not caught.value.server
    for part in reason.split("*"):
        assert part in caught.value.reason
    servicer.refuse_index = True
    with pytest.raises(NotReady, match="is not ready on Triton at"):
        await client.read("m", version)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "details", "server", "reason"),
    [
        ("UNAVAILABLE", "Socket closed", True, "cannot be reached"),
        ("DEADLINE_EXCEEDED", "", True, "did not answer within 5 s"),
        ("UNIMPLEMENTED", "", True, "is no Triton server"),
        ("NOT_FOUND", "Request for unknown model: 'm' is not found", False, "has no model 'm'"),
        ("UNAVAILABLE", "Request for unknown model: 'm' has no available versions", False, "has no model 'm'"),
        ("INTERNAL", "boom\nat line 5", False, "does not tell about model 'm': internal: boom"),
    ],
)
async def test_refusals_in_words(
    played: tuple[Servicer, MetadataClient], code: str, details: str, server: bool, reason: str
) -> None:
    servicer, client = played
    servicer.refuse = (grpc.StatusCode[code], details)
    with pytest.raises(NotReady) as caught:
        await client.read("m", "")
    assert reason in caught.value.reason
    assert caught.value.server is server
    assert caught.value.silent is (code == "DEADLINE_EXCEEDED")
    assert "\n" not in caught.value.reason


@pytest.mark.asyncio
async def test_nobody_there() -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    client = MetadataClient(f"127.0.0.1:{port}")
    with pytest.raises(NotReady, match=f"Triton at 127.0.0.1:{port} cannot be reached"):
        await client.read("m", "")
    assert repr(client) == f"MetadataClient(127.0.0.1:{port})"
    await client.close()
