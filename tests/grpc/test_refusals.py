"""Every refusal of the gRPC face names field, value and remedy, has a status code and details, and is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from gateway.core.errors import Overloaded, PenstockError
from gateway.core.request import Guide, Message, Request, Sampling
from gateway.grpc_errors import MAX_MESSAGE_CHARS, status_of
from gateway.grpc_messages import decode_request, request_of
from penstock.v1 import inference_pb2 as pb
from tests.grpc.serving import GrpcGateway, chat, refusal_of
from tests.inprocess import WAIT_S, endpoint

USER = [pb.Message(role="user", content="x")]
DEEP = "[" * 70 + "]" * 70
NAN = float("nan")


def message(**fields: Any) -> list[pb.Message]:
    return [pb.Message(**{"role": "user", "content": "x", **fields})]


# Fields of a GenerateRequest, the parameter at fault, and what the message must say.
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"model": ""}, "model", "missing"),
    ({"messages": []}, "messages", "found none"),
    ({"prompts": ["p"]}, "prompts", "one of them"),
    ({"messages": [], "prompts": [""]}, "prompts", "empty"),
    ({"messages": [], "prompts": ["p"] * 65}, "prompts", "at most 64"),
    ({"messages": message(role="robot")}, "messages[0].role", '"robot"'),
    ({"messages": [*USER, *message(tool_calls="{}")]}, "messages[1].tool_calls", "JSON array"),
    ({"messages": message(tool_calls="[")}, "messages[0].tool_calls", "JSON array"),
    ({"messages": message(tool_calls=DEEP * 40)}, "messages[0].tool_calls", "JSON array"),
    ({"max_tokens": 0}, "max_tokens", "found 0"),
    ({"max_tokens": -5}, "max_tokens", "found -5"),
    ({"min_tokens": -1}, "min_tokens", "found -1"),
    ({"temperature": 2.5}, "temperature", "found 2.5"),
    ({"temperature": -0.1}, "temperature", "found -0.1"),
    ({"temperature": NAN}, "temperature", "found nan"),
    ({"top_p": 0.0}, "top_p", "found 0.0"),
    ({"top_p": float("inf")}, "top_p", "found inf"),
    ({"top_k": -2}, "top_k", "found -2"),
    ({"presence_penalty": 3}, "presence_penalty", "found 3"),
    ({"frequency_penalty": -3}, "frequency_penalty", "found -3"),
    ({"repetition_penalty": 0}, "repetition_penalty", "found 0"),
    ({"n": 0}, "n", "found 0"),
    ({"n": 129}, "n", "found 129"),
    ({"stop": ["a"] * 17}, "stop", "found 17"),
    ({"stop": [""]}, "stop", "1 to 256"),
    ({"user": "u" * 513}, "user", "found 513"),
    ({"guide": pb.Guide()}, "guide", "found none"),
    ({"guide": pb.Guide(regex="")}, "guide.regex", "guide.regex: expected a string"),
    ({"guide": pb.Guide(grammar="")}, "guide.grammar", "guide.grammar: expected a string"),
    ({"guide": pb.Guide(json_schema="{")}, "guide.json_schema", "as JSON text"),
    ({"guide": pb.Guide(json_schema="[]")}, "guide.json_schema", "guide.json_schema: expected a JSON schema object"),
    ({"guide": pb.Guide(json_schema='{"a":' + DEEP + "}")}, "guide.json_schema", "deeper than 64"),
]


def asked(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"model": "assistant", "messages": USER, **fields})


@pytest.mark.parametrize(
    ("fields", "param", "words"), BAD, ids=[f"{param}-{at}" for at, (_, param, _) in enumerate(BAD)]
)
def test_bad_fields(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(PenstockError) as refused:
        request_of(asked(**fields), stream=False)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert param in refused.value.message
    assert words in refused.value.message
    assert "response_format" not in refused.value.message
    assert len(refused.value.message) < 300


def test_what_is_not_said_is_left_to_the_version() -> None:
    assert request_of(asked(), stream=True) == Request(
        "assistant", (Message("user", "x"),), (), Sampling(), None, 1, True, True, None
    )


def test_all_that_can_be_said() -> None:
    fields: dict[str, Any] = {
        "max_tokens": 9,
        "min_tokens": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "seed": 2**64 - 1,
        "presence_penalty": -2.0,
        "frequency_penalty": 2.0,
        "repetition_penalty": 1.1,
        "stop": ["a", "b"],
    }
    calls = '[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]'
    said = [
        pb.Message(role="user", content="x", name="ann"),
        pb.Message(role="assistant", tool_calls=calls),
        pb.Message(role="tool", content="y", tool_call_id="c1"),
    ]
    found = request_of(asked(messages=said, logprobs=True, n=3, user="u", **fields), stream=False)
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert found.messages == (
        Message("user", "x", "ann"),
        Message("assistant", "", None, [call]),
        Message("tool", "y", None, None, "c1"),
    )
    assert found.sampling == Sampling(**{**fields, "stop": ("a", "b")}, logprobs=True)
    assert (found.n, found.user, found.stream) == (3, "u", False)


GUIDES = [
    (pb.Guide(json_object=True), Guide("json_object")),
    (pb.Guide(json_object=False), None),
    (pb.Guide(json_schema='{ "type": "object" }'), Guide("json_schema", '{"type":"object"}')),
    (pb.Guide(regex="a+"), Guide("regex", "a+")),
    (pb.Guide(grammar='root ::= "a"'), Guide("grammar", 'root ::= "a"')),
]


@pytest.mark.parametrize(("guide", "wanted"), GUIDES)
def test_guides(guide: pb.Guide, wanted: Guide | None) -> None:
    assert request_of(asked(guide=guide), stream=False).guide == wanted


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_off(top_k: int) -> None:
    assert request_of(asked(top_k=top_k), stream=False).sampling.top_k is None


@pytest.mark.parametrize("data", [b"\xff", b"\n\x02a", b"\n\x01\xff", b"hello"])
def test_no_message(data: bytes) -> None:
    with pytest.raises(PenstockError, match="GenerateRequest") as refused:
        decode_request(data)
    assert refused.value.code == "invalid_message"


def test_a_status_is_cut_to_what_clients_take() -> None:
    status = status_of(Overloaded("é" * 5000, retry_after=1.5), "r")
    assert len(status.message) == MAX_MESSAGE_CHARS
    assert len(status.SerializeToString()) < 4096


# Over the wire


@pytest.fixture(scope="module")
def gateway() -> Iterator[GrpcGateway]:
    plain = endpoint("plain", chat_template="")
    with GrpcGateway(("a",), endpoint("assistant", "v1", "v2"), plain, body_bytes=4096) as one:
        yield one
        one.idle()
        assert one.loop_errors == []


CODES = grpc.StatusCode
REFUSED: list[tuple[pb.GenerateRequest, list[tuple[str, str]], Any, str, str | None]] = [
    (chat("x", temperature=9), [], CODES.INVALID_ARGUMENT, "INVALID_REQUEST", "temperature"),
    (chat("x", "asistant"), [], CODES.NOT_FOUND, "MODEL_NOT_FOUND", "model"),
    (chat("x", "assistant@v9"), [], CODES.NOT_FOUND, "MODEL_NOT_FOUND", "model"),
    (chat("x", pin="v9"), [], CODES.NOT_FOUND, "MODEL_NOT_FOUND", "model"),
    (chat("x", "assistant@v1", pin="v2"), [], CODES.INVALID_ARGUMENT, "INVALID_REQUEST", "model"),
    (chat("x", pin="v1"), [("x-penstock-version", "v2")], CODES.INVALID_ARGUMENT, "INVALID_REQUEST", "pin"),
    (chat("x", max_tokens=99999), [], CODES.INVALID_ARGUMENT, "INVALID_REQUEST", "max_tokens"),
    (chat("x", n=9), [], CODES.INVALID_ARGUMENT, "INVALID_REQUEST", "n"),
    (chat("x", "plain"), [], CODES.INVALID_ARGUMENT, "INVALID_REQUEST", "messages"),
    (chat("x" * 5000), [], CODES.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("request_", "metadata", "code", "reason", "param"), REFUSED)
def test_refusals(
    gateway: GrpcGateway, request_: Any, metadata: Any, code: Any, reason: str, param: str | None, stream: bool
) -> None:
    gateway.records.clear()
    jobs = len(gateway.engine.calls)
    refusal = gateway.refusal(request_, [("x-request-id", "mine"), *metadata], stream=stream)
    assert (refusal.code, refusal.reason, refusal.param) == (code, reason, param)
    assert (refusal.trailing["x-request-id"], refusal.info.metadata["request_id"]) == ("mine", "mine")
    assert refusal.info.metadata["retryable"] == "false"
    record = gateway.record
    assert (record.outcome, record.face, record.request_id, record.failure.param) == ("refused", "grpc", "mine", param)
    assert record.failure.code.upper() == reason
    assert len(gateway.engine.calls) == jobs


def test_a_message_that_is_none(gateway: GrpcGateway) -> None:
    call = gateway.channel.unary_unary("/penstock.v1.Inference/Generate")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"\xff\xff", timeout=WAIT_S)
    refusal = refusal_of(refused.value)
    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_MESSAGE")


def test_a_message_far_over_the_limit_is_not_read(gateway: GrpcGateway) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        gateway.generate(chat("x" * 20_000))
    assert refused.value.code() == CODES.RESOURCE_EXHAUSTED


def test_metadata_over_the_limit() -> None:
    with GrpcGateway(("a",), header_bytes=4096) as one:
        assert one.generate(chat("x"), [("x-filler", "a" * 2000)]).choices[0].text == "a"
        with pytest.raises(grpc.RpcError) as refused:
            one.generate(chat("x"), [("x-filler", "a" * 8000)])
        assert refused.value.code() == CODES.RESOURCE_EXHAUSTED


def test_no_such_method(gateway: GrpcGateway) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        gateway.channel.unary_unary("/penstock.v1.Inference/Degenerate")(b"", timeout=WAIT_S)
    assert refused.value.code() == CODES.UNIMPLEMENTED


def test_overload_says_when_to_come_back() -> None:
    with GrpcGateway(("a",), concurrent_requests=0) as one:
        refusal = one.refusal(chat("x"))
        assert (refusal.code, refusal.reason) == (CODES.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert refusal.retry_after == 1.0
        assert refusal.info.metadata["retryable"] == "true"
        assert one.record.outcome == "shed"


def test_a_defect_says_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a secret of the inside")

    with GrpcGateway(broken) as one:
        refusal = one.refusal(chat("a prompt"))
        assert (refusal.code, refusal.reason) == (CODES.INTERNAL, "INTERNAL_ERROR")
        assert "secret" not in refusal.message
        assert one.record.outcome == "failed"
    assert refusal.trailing["x-request-id"] in caplog.text
    assert "a prompt" not in caplog.text
