"""One table of requests over HTTP with the stock openai client and over gRPC: same answers, versions and errors.

The fields bear the same names on both faces, so a case is written once, as the body of HTTP.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import openai
import orjson
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from msgspec.structs import replace

from gateway.journal.reader import find
from gateway.journal.record import Record
from gateway.journal.segments import journal_folder
from penstock.v1 import inference_pb2 as pb
from penstock.v1 import inference_pb2_grpc
from tests.e2e.running import Running

WAIT_S = 60
COUNT = "Count from 1 to 9."
PROMPT = "<s><|user|>Count from 1 to 9.</s><|assistant|>"
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
FINISHES = {pb.FINISH_STOP: "stop", pb.FINISH_LENGTH: "length"}


class Seen(NamedTuple):
    """What a caller sees of an answer; `error` is its code and parameter."""

    version: str
    texts: list[str]
    finishes: list[str]
    usage: tuple[int, int] | None
    error: tuple[str, str | None] | None = None


def chat(text: str = COUNT, model: str = "assistant@v2", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 40, **fields}


def plain(prompt: Any = PROMPT, model: str = "assistant@v2", **fields: Any) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "max_tokens": 24, **fields}


def guided(**response_format: Any) -> dict[str, Any]:
    return chat("Which city?", response_format=response_format, max_tokens=30)


LONG_CHAT = [
    {"role": "system", "content": "Answer in short."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello! How can I help?"},
    {"role": "user", "content": "What is a canary?"},
]
FREE: dict[str, Any] = {"temperature": 1.5, "max_tokens": 16}
# The body, and headers where the case needs some.
CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
    # greedy
    (chat(), {}),
    (chat(model="assistant@v1"), {}),
    (chat("What is a canary?"), {}),
    (chat("Naïve Straße 🌍 日本"), {}),
    (chat(messages=LONG_CHAT), {}),
    (chat(stream=True), {}),
    (chat("Hello", stream=True), {}),
    # seeded
    (chat("Tell me something.", seed=7, **FREE), {}),
    (chat("Tell me something.", seed=8, **FREE), {}),
    (chat("Tell me something.", seed=2**64 - 1, **FREE), {}),
    (chat("Tell me something.", seed=7, stream=True, **FREE), {}),
    (chat("Tell me something.", seed=7, top_p=0.5, top_k=5, **FREE), {}),
    (chat("Tell me something.", seed=7, presence_penalty=1.0, frequency_penalty=0.5, **FREE), {}),
    (chat("Tell me something.", seed=7, repetition_penalty=1.3, min_tokens=4, **FREE), {}),
    # choices and ends
    (chat("Tell me something.", seed=7, n=2, **FREE), {}),
    (chat("Tell me something.", seed=7, n=2, stream=True, **FREE), {}),
    (chat(max_tokens=5), {}),
    (chat(stop=["5"]), {}),
    (chat(stop=["5", "3"], stream=True), {}),
    # guides
    (guided(type="regex", regex="(Oslo|Rome)"), {}),
    (guided(type="json_schema", json_schema={"name": "city", "schema": SCHEMA}), {}),
    (guided(type="ebnf", ebnf='root ::= "Oslo" | "Rome"'), {}),
    # prompts
    (plain(), {}),
    (plain([PROMPT, PROMPT], n=2, seed=3, temperature=1.0), {}),
    (plain(stream=True), {}),
    # pins and sticky users
    (chat(model="assistant", max_tokens=4), {"x-penstock-version": "v1"}),
    (chat(model="assistant", max_tokens=4), {"x-penstock-version": "assistant@v2"}),
    *[(chat(model="assistant", max_tokens=4, user=user), {}) for user in ("ann", "bob", "carl", "dora")],
    # refusals
    (chat(model="asistant"), {}),
    (chat(model="assistant@v9"), {}),
    (chat(), {"x-penstock-version": "v1"}),
    (chat(temperature=2.5), {}),
    (chat(max_tokens=100_000), {}),
    (chat(n=50), {}),
    (chat(stop=[""]), {}),
    (chat("word " * 6000), {}),
    (guided(type="regex", regex="("), {}),
]


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def stub(gateway: Running) -> Iterator[inference_pb2_grpc.InferenceStub]:
    with grpc.insecure_channel(gateway.facts["grpc"]) as channel:
        yield inference_pb2_grpc.InferenceStub(channel)


def over_http(client: openai.OpenAI, body: dict[str, Any], headers: dict[str, str]) -> Seen:
    said = dict(body)
    given = {name: said.pop(name) for name in ("model", "messages", "prompt") if name in said}
    stream = said.pop("stream", False)
    if stream:
        said["stream_options"] = {"include_usage": True}
    api: Any = client.chat.completions if "messages" in given else client.completions
    try:
        raw = api.with_raw_response.create(**given, stream=stream, extra_body=said, extra_headers=headers)
    except openai.APIStatusError as error:
        return Seen(error.response.headers.get("x-penstock-version", ""), [], [], None, (str(error.code), error.param))
    answer = raw.parse()
    parts = list(answer) if stream else [answer]
    texts: dict[int, str] = {}
    finishes: dict[int, str] = {}
    for choice in (choice for part in parts for choice in part.choices):
        piece = choice.text if "prompt" in given else (choice.delta if stream else choice.message).content
        texts[choice.index] = texts.get(choice.index, "") + (piece or "")
        if choice.finish_reason:
            finishes[choice.index] = choice.finish_reason
    usage = parts[-1].usage
    return Seen(
        raw.headers["x-penstock-version"],
        [texts[index] for index in sorted(texts)],
        [finishes[index] for index in sorted(finishes)],
        (usage.prompt_tokens, usage.completion_tokens),
    )


def to_message(body: dict[str, Any]) -> pb.GenerateRequest:
    said = dict(body)
    said.pop("stream", None)
    if "messages" in said:
        said["messages"] = [pb.Message(**message) for message in said["messages"]]
    if "prompt" in said:
        prompt = said.pop("prompt")
        said["prompts"] = [prompt] if isinstance(prompt, str) else prompt
    guide = said.pop("response_format", None)
    if guide is not None:
        source = {
            "regex": lambda: {"regex": guide["regex"]},
            "ebnf": lambda: {"grammar": guide["ebnf"]},
            "json_schema": lambda: {"json_schema": orjson.dumps(guide["json_schema"]["schema"]).decode()},
        }
        said["guide"] = pb.Guide(**source[guide["type"]]())
    return pb.GenerateRequest(**said)


def over_grpc(stub: inference_pb2_grpc.InferenceStub, body: dict[str, Any], headers: dict[str, str]) -> Seen:
    request, metadata = to_message(body), tuple(headers.items())
    try:
        if body.get("stream"):
            return _streamed(stub.GenerateStream(request, metadata=metadata, timeout=WAIT_S))
        answer = stub.Generate(request, metadata=metadata, timeout=WAIT_S)
    except grpc.RpcError as error:
        call: Any = error
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(call)
        assert status.details[0].Unpack(info)
        version = dict(call.trailing_metadata()).get("x-penstock-version", "")
        return Seen(version, [], [], None, (info.reason.lower(), info.metadata.get("param")))
    return Seen(
        f"{answer.head.endpoint}@{answer.head.version}",
        [choice.text for choice in answer.choices],
        [FINISHES[choice.finish] for choice in answer.choices],
        (answer.usage.prompt_tokens, answer.usage.completion_tokens),
    )


def _streamed(call: Any) -> Seen:
    version, usage = "", (0, 0)
    texts: dict[int, str] = {}
    finishes: dict[int, str] = {}
    for event in call:
        kind = event.WhichOneof("event")
        if kind == "started":
            version = f"{event.started.endpoint}@{event.started.version}"
        elif kind == "delta":
            texts[event.delta.choice] = texts.get(event.delta.choice, "") + event.delta.text
        elif kind == "finished":
            finishes[event.finished.choice] = FINISHES[event.finished.finish]
        else:
            usage = (event.ended.usage.prompt_tokens, event.ended.usage.completion_tokens)
    return Seen(version, [texts[at] for at in sorted(texts)], [finishes[at] for at in sorted(finishes)], usage)


def test_the_table_has_forty_requests_of_all_kinds() -> None:
    assert len(CASES) == 40


def recorded(gateway: Running, request_id: str) -> Record:
    """The one record of a request; it is written some milliseconds after the answer."""
    give_up = time.monotonic() + WAIT_S
    while not (found := find(journal_folder(gateway.state), request_id)):
        assert time.monotonic() < give_up, f"no record of {request_id}"
        time.sleep(0.01)
    (record,) = found
    return record


def alike(record: Record) -> Record:
    """Without what two requests never have in common: ids, times, the process, and how the bytes were cut."""
    return replace(record, id="", request_id="", at=0, worker=0, face="http", dialect="", sent=None, first_text=None,
                   last_text=None, ended=0, worst_gap=None, chunks=0)  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)))
def test_parity(gateway: Running, client: openai.OpenAI, stub: inference_pb2_grpc.InferenceStub, number: int) -> None:
    body, headers = CASES[number]
    ids = [f"parity-{face}-{number}-{uuid.uuid4().hex}" for face in ("http", "grpc")]
    http = over_http(client, body, headers | {"x-request-id": ids[0]})
    assert http == over_grpc(stub, body, headers | {"x-request-id": ids[1]})
    refused = number >= 31
    assert (http.error is not None) == refused
    assert refused or all(http.texts)
    one, other = [recorded(gateway, request_id) for request_id in ids]
    assert (one.face, other.face) == ("http", "grpc")
    assert alike(one) == alike(other)
    assert one.outcome == ("refused" if refused else "finished")
    assert refused or [choice.text for choice in one.choices] == http.texts


def test_both_versions_answered_sticky_users(stub: inference_pb2_grpc.InferenceStub) -> None:
    versions = {user: over_grpc(stub, chat("Hi", "assistant", user=user, max_tokens=1), {}).version for user in USERS}
    assert set(versions.values()) == {"assistant@v1", "assistant@v2"}


USERS = [f"user-{number}" for number in range(40)]


def test_the_face_lists_what_http_lists(client: openai.OpenAI, stub: inference_pb2_grpc.InferenceStub) -> None:
    listed = stub.ListEndpoints(pb.ListEndpointsRequest(), timeout=WAIT_S).endpoints
    assert [one.name for one in listed] == [model.id for model in client.models.list()]
    assert {version.name: version.share for version in listed[0].versions} == {"v1": 0.9, "v2": 0.1}
    assert all(version.ready for version in listed[0].versions)
