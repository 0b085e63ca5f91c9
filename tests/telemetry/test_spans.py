"""Records as spans, and which of them are kept."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.core.request import Message, Sampling
from gateway.journal.record import Choice, Failure, Record, Trace, encode_record
from gateway.telemetry import names
from gateway.telemetry.selection import Glance, Selection
from gateway.telemetry.spans import SpanData, spans_of
from tests.telemetry.records import AT, CALLER, ENGINES, FAILED, MS, OUR, TRACE, answered, refused

SECRET = "How high is it?"


def request_of(record: Record, **options: Any) -> SpanData:
    return spans_of(record, **options)[0]


def test_a_chat() -> None:
    request, engine = spans_of(answered())
    assert request == SpanData(
        name="chat assistant",
        kind="server",
        trace=TRACE,
        span=OUR,
        parent=CALLER,
        remote=True,
        state="a=1",
        start=AT,
        end=AT + 52 * MS,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "penstock",
            "gen_ai.request.model": "assistant",
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.seed": 7,
            "gen_ai.request.stop_sequences": ("\n",),
            "gen_ai.response.id": "018bcfe56800123456780000a1",
            "gen_ai.response.model": "assistant@v2",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.response.time_to_first_chunk": 0.02,
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 4,
            "penstock.endpoint": "assistant",
            "penstock.version": "v2",
            "penstock.reason": "weight",
            "penstock.outcome": "finished",
            "penstock.face": "http",
            "penstock.dialect": "openai_chat",
            "penstock.request_id": "req-1",
            "penstock.api_key": "team-a",
            "penstock.fingerprint": "assistant@v2:0123456789",
            "penstock.determinism": "seeded",
            "penstock.worker": 2,
            "penstock.overhead": 0.001,
            "penstock.cost": 1234,
            "penstock.price": "2026-11",
        },
    )
    assert engine == SpanData(
        name="triton assistant@v2",
        kind="client",
        trace=TRACE,
        span=ENGINES,
        parent=OUR,
        remote=False,
        state="a=1",
        start=AT + 1 * MS,
        end=AT + 52 * MS,
        attributes={
            "rpc.system.name": "grpc",
            "rpc.method": "inference.GRPCInferenceService/ModelStreamInfer",
            "penstock.version": "assistant@v2",
            "server.address": "127.0.0.1",
            "server.port": 8001,
        },
        events=(("penstock.first_text", AT + 20 * MS), ("penstock.last_text", AT + 50 * MS)),
    )


def test_a_refused_request_is_one_span_and_no_error_of_ours() -> None:
    (request,) = spans_of(refused())
    assert request.name == "chat"
    assert request.error is None
    assert request.attributes["error.type"] == "invalid_request"
    assert request.attributes["penstock.status"] == 400


def test_without_a_trace_there_are_no_spans() -> None:
    assert spans_of(answered(trace=None)) == []


def test_a_root() -> None:
    request = request_of(answered(trace=Trace(TRACE, OUR)))
    assert (request.parent, request.remote) == ("", False)


@pytest.mark.parametrize(
    ("outcome", "failure", "error"),
    [
        ("finished", None, None),
        ("failed", FAILED, "The engine failed."),
        ("shed", Failure("overloaded", "Full.", 429), "Full."),
        ("refused", Failure("model_not_found", "No.", 404), None),
        ("cancelled", None, None),
        ("cancelled", Failure("cancelled", "Shutting down.", 499), None),
        ("abandoned", None, None),
    ],
)
def test_what_is_an_error(outcome: Any, failure: Failure | None, error: str | None) -> None:
    spans = spans_of(answered(outcome=outcome, failure=failure))
    assert [span.error for span in spans] == [error, error]
    assert spans[0].attributes.get(names.ERROR_TYPE) == (failure.code if failure else None)


@pytest.mark.parametrize(
    ("fields", "operation"),
    [
        ({"dialect": "openai_chat"}, "chat"),
        ({"dialect": "openai_completions"}, "text_completion"),
        ({"dialect": "penstock.v1"}, "chat"),
        ({"dialect": "penstock.v1", "prompts": ("Once",), "messages": ()}, "text_completion"),
    ],
)
def test_operations(fields: dict[str, Any], operation: str) -> None:
    request = request_of(answered(**fields))
    assert request.name == f"{operation} assistant"
    assert request.attributes[names.OPERATION] == operation


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"n": 2, "choices": (Choice("a", "stop"), Choice("b"))}, names.FINISH_REASONS, ("stop", "error")),
        ({"n": 2}, names.CHOICE_COUNT, 2),
        ({"n": 1}, names.CHOICE_COUNT, None),
        ({"stream": False}, names.STREAM, None),
        ({"sampling": None}, names.MAX_TOKENS, None),
        ({"sampling": Sampling(seed=2**64 - 1)}, names.SEED, str(2**64 - 1)),
        ({"sampling": Sampling(seed=2**63 - 1)}, names.SEED, 2**63 - 1),
        ({"sampling": Sampling(seed=0, temperature=0.0)}, names.TEMPERATURE, 0.0),
        ({"first_text": None}, names.TIME_TO_FIRST_CHUNK, None),
        ({"cost": 0}, names.COST, 0),
        ({"cost": None}, names.COST, None),
        ({"guide": "json_schema"}, names.GUIDE, "json_schema"),
    ],
)
def test_attributes(fields: dict[str, Any], name: str, value: Any) -> None:
    assert request_of(answered(**fields)).attributes.get(name) == value


@pytest.mark.parametrize(
    ("replica", "address", "port"),
    [("[::1]:8001", "::1", 8001), ("triton-0.models:8001", "triton-0.models", 8001), ("", None, None)],
)
def test_replicas(replica: str, address: str | None, port: int | None) -> None:
    engine = spans_of(answered(replica=replica))[1]
    assert (engine.attributes.get(names.SERVER_ADDRESS), engine.attributes.get(names.SERVER_PORT)) == (address, port)


@pytest.mark.parametrize(
    ("content", "kept", "expected"),
    [(False, "full", False), (True, "full", True), (True, "hashed", False), (True, "none", False)],
)
def test_content_goes_along_only_where_the_endpoint_says_so_and_has_it(
    content: bool, kept: Any, expected: bool
) -> None:
    spans = spans_of(answered(content=kept), content=content)
    assert (SECRET in repr(spans)) is expected
    assert ("300 m." in repr(spans)) is expected


def test_the_form_of_content() -> None:
    call = {"id": "call-1", "type": "function", "function": {"name": "height", "arguments": '{"of":"it"}'}}
    record = answered(
        messages=(
            Message("system", "Be short."),
            Message("user", SECRET),
            Message("assistant", "", tool_calls=[call]),
            Message("tool", "300", tool_call_id="call-1"),
        ),
        choices=(Choice("300 m.", "stop"), Choice("30")),
    )
    attributes = request_of(record, content=True).attributes
    assert json.loads(str(attributes[names.INPUT_MESSAGES])) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be short."}]},
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call-1", "name": "height", "arguments": '{"of":"it"}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-1", "response": "300"}]},
    ]
    assert json.loads(str(attributes[names.OUTPUT_MESSAGES])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "300 m."}], "finish_reason": "stop"},
        {"role": "assistant", "parts": [{"type": "text", "content": "30"}], "finish_reason": "error"},
    ]


@pytest.mark.parametrize("call", ["what", None, 3, {"function": "x"}, {}])
def test_tool_calls_of_any_shape(call: Any) -> None:
    record = answered(messages=(Message("assistant", "", tool_calls=[call]),))
    (asked,) = json.loads(str(request_of(record, content=True).attributes[names.INPUT_MESSAGES]))
    assert asked["parts"] == [{"type": "tool_call", "arguments": call}]


def test_prompts_as_content() -> None:
    record = answered(dialect="openai_completions", messages=(), prompts=("Once", "Twice"))
    asked = json.loads(str(request_of(record, content=True).attributes[names.INPUT_MESSAGES]))
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": prompt}]} for prompt in ("Once", "Twice")]


IN, OUT = Trace("f" * 32, OUR), Trace("0" * 32, OUR)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"trace": IN}, True),
        ({"trace": OUT}, False),
        ({"trace": OUT, "outcome": "failed"}, True),
        ({"trace": OUT, "outcome": "shed"}, True),
        ({"trace": OUT, "outcome": "refused"}, False),
        ({"trace": OUT, "outcome": "cancelled"}, False),
        ({"trace": OUT, "outcome": "abandoned"}, False),
        ({"trace": OUT, "ended": 2000 * MS - 1}, False),
        ({"trace": OUT, "ended": 2000 * MS}, True),
        ({"trace": msgspec.structs.replace(OUT, sampled=True)}, True),
        ({"trace": msgspec.structs.replace(IN, sampled=False)}, False),
        ({"trace": msgspec.structs.replace(IN, sampled=False), "outcome": "failed"}, True),
        ({"trace": None, "outcome": "failed"}, False),
    ],
)
def test_what_is_kept(fields: dict[str, Any], kept: bool) -> None:
    glance = msgspec.json.decode(encode_record(answered(**fields)), type=Glance)
    assert Selection(share=0.01, slow_s=2.0).keeps(glance) is kept
