"""Generate, GenerateStream and ListEndpoints, as a stock client sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import msgspec
import pytest

from gateway.core.answer import TokenLogprob
from gateway.core.errors import EngineError, EngineUnavailable
from gateway.engines.base import Result
from gateway.engines.scripted import Chunk
from gateway.routing.version import Price
from penstock.v1 import inference_pb2 as pb
from tests.grpc.serving import GrpcGateway, chat, events, refusal_of
from tests.inprocess import endpoint

SCRIPTS: dict[str, Any] = {
    "hi": ("Hél", "lo", " 🙂"),
    "short": ("one", Result("length", 3, 1)),
    "nothing": (),
    "uncounted": ("one", Result("stop", None, None)),
    "logprobs": (Chunk("a", (TokenLogprob("a", -0.5),)), Chunk("b", (TokenLogprob("b", -1.25),))),
    "fail": (EngineError("the engine broke"),),
    "away": (EngineUnavailable("no engine"),),
    "break": ("one", EngineError("the engine broke")),
}


def script(_: Any, job: Any) -> Any:
    return SCRIPTS.get(job.prompt, (f"echo {job.prompt} {job.sampling.seed}",))


@pytest.fixture(scope="module")
def gateway() -> Iterator[GrpcGateway]:
    assistant = endpoint("assistant", "v1", "v2", split={"v1": 1.0, "v2": 0.0}, price=Price("p1", 2, 5))
    free = endpoint("free", determinism="seeded")
    with GrpcGateway(script, assistant, free) as one:
        yield one
        one.idle()
        assert one.loop_errors == []


@pytest.fixture(autouse=True)
def no_records(gateway: GrpcGateway) -> None:
    gateway.records.clear()


def test_whole(gateway: GrpcGateway) -> None:
    answer, call = gateway.stub.Generate.with_call(chat("hi"), metadata=[("x-request-id", "mine-1")], timeout=20)
    assert [(choice.text, choice.finish) for choice in answer.choices] == [("Héllo 🙂", pb.FINISH_STOP)]
    assert (answer.head.endpoint, answer.head.version, answer.head.determinism) == ("assistant", "v1", "free")
    assert answer.head.fingerprint.startswith("assistant@v1:")
    assert not answer.head.HasField("seed")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 3)
    assert answer.cost == 1 * 2 + 3 * 5
    times = answer.timings
    assert 0 < times.sent <= times.first_text <= times.total
    assert dict(call.initial_metadata())["x-request-id"] == "mine-1"
    trailing = dict(call.trailing_metadata())
    assert (trailing["x-request-id"], trailing["x-penstock-version"]) == ("mine-1", "assistant@v1")
    record = gateway.record
    assert (record.id, record.face, record.dialect) == (answer.head.id, "grpc", "penstock.v1")
    assert (record.request_id, record.outcome, record.stream) == ("mine-1", "finished", False)
    assert (record.cost, record.choices[0].text) == (answer.cost, "Héllo 🙂")


def test_streamed(gateway: GrpcGateway) -> None:
    call = gateway.stream(chat("hi"), [("x-request-id", "not a valid id")])
    found = events(call)
    assert [kind for kind, _ in found] == ["started", "delta", "delta", "delta", "finished", "ended"]
    assert [event.text for kind, event in found if kind == "delta"] == ["Hél", "lo", " 🙂"]
    started, finished, ended = found[0][1], found[-2][1], found[-1][1]
    assert (started.version, finished.finish, ended.cost) == ("v1", pb.FINISH_STOP, 17)
    assert (ended.usage.prompt_tokens, ended.usage.completion_tokens) == (1, 3)
    assert 0 < ended.timings.sent <= ended.timings.first_text <= ended.timings.total
    request_id = dict(call.initial_metadata())["x-request-id"]
    assert request_id.startswith("req-")
    assert dict(call.trailing_metadata())["x-request-id"] == request_id
    assert dict(call.trailing_metadata())["x-penstock-version"] == "assistant@v1"
    record = gateway.record
    assert (record.id, record.request_id, record.outcome, record.stream) == (started.id, request_id, "finished", True)


def test_nothing_said_and_nothing_counted(gateway: GrpcGateway) -> None:
    answer = gateway.generate(chat("nothing", "free"))
    assert [(choice.text, choice.finish) for choice in answer.choices] == [("", pb.FINISH_STOP)]
    assert not answer.timings.HasField("first_text")
    assert not answer.HasField("cost")  # no price
    answer = gateway.generate(chat("uncounted"))
    assert not answer.HasField("cost")  # a price, but no counts
    assert not answer.usage.HasField("prompt_tokens")
    assert not answer.usage.HasField("completion_tokens")


def test_choices_of_prompts(gateway: GrpcGateway) -> None:
    asked = pb.GenerateRequest(model="assistant", prompts=["p", "short"], n=2, seed=7)
    answer = gateway.generate(asked)
    texts = ["echo p 7", "echo p 8", "one", "one"]
    assert [choice.text for choice in answer.choices] == texts
    assert [choice.finish for choice in answer.choices] == [pb.FINISH_STOP] * 2 + [pb.FINISH_LENGTH] * 2
    assert answer.head.seed == 7
    found = events(gateway.stream(asked))
    streamed = {
        choice: "".join(e.text for kind, e in found if kind == "delta" and e.choice == choice) for choice in range(4)
    }
    assert list(streamed.values()) == texts
    assert sorted(e.choice for kind, e in found if kind == "finished") == [0, 1, 2, 3]


def test_a_derived_seed_is_told(gateway: GrpcGateway) -> None:
    answer = gateway.generate(chat("x", "free"))
    assert answer.head.determinism == "seeded"
    assert answer.choices[0].text == f"echo x {answer.head.seed}"


def test_logprobs(gateway: GrpcGateway) -> None:
    answer = gateway.generate(chat("logprobs", logprobs=True))
    assert [(item.token, item.logprob) for item in answer.choices[0].logprobs] == [("a", -0.5), ("b", -1.25)]
    found = events(gateway.stream(chat("logprobs", logprobs=True)))
    assert [e.logprobs[0].logprob for kind, e in found if kind == "delta"] == [-0.5, -1.25]


PINS: list[tuple[str, dict[str, str], list[tuple[str, str]], str]] = [
    ("assistant", {}, [], "v1"),
    ("assistant", {"pin": "v2"}, [], "v2"),
    ("assistant@v2", {}, [], "v2"),
    ("assistant", {}, [("x-penstock-version", "v2")], "v2"),
    ("assistant", {}, [("x-penstock-version", "assistant@v2")], "v2"),
    ("assistant", {"pin": "v2"}, [("x-penstock-version", "assistant@v2")], "v2"),
    ("assistant@v2", {"pin": "v2"}, [("x-penstock-version", "")], "v2"),
]


@pytest.mark.parametrize(("model", "fields", "metadata", "version"), PINS)
def test_pins(gateway: GrpcGateway, model: str, fields: Any, metadata: Any, version: str) -> None:
    assert gateway.generate(chat("hi", model, **fields), metadata).head.version == version
    assert gateway.record.reason == ("pin" if version == "v2" else "weight")


def test_sticky_by_user_and_by_metadata() -> None:
    split = {"v1": 1.0, "v2": 1.0}
    by_user = endpoint("user", "v1", "v2", split=split)
    by_header = endpoint("header", "v1", "v2", split=split)
    by_header = msgspec.structs.replace(by_header, sticky="header:x-session-id")
    with GrpcGateway(("a",), by_user, by_header) as one:
        for key in ("ann", "bob", "carl", "dora", "eve", "fred"):
            for asked, metadata in (
                (chat("x", "user", user=key), []),
                (chat("x", "header"), [("x-session-id", key)]),
            ):
                versions = {one.generate(asked, metadata).head.version for _ in range(3)}
                assert len(versions) == 1
        assert {record.reason for record in one.records} == {"sticky"}
        assert {record.version for record in one.records} == {"v1", "v2"}


FAILURES = [
    ("fail", grpc.StatusCode.INTERNAL, "ENGINE_ERROR"),
    ("away", grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("prompt", "code", "reason"), FAILURES)
def test_failures_of_the_engine(gateway: GrpcGateway, prompt: str, code: Any, reason: str, stream: bool) -> None:
    refusal = gateway.refusal(chat(prompt), stream=stream)
    assert (refusal.code, refusal.reason, refusal.param) == (code, reason, None)
    assert refusal.info.metadata["retryable"] == "true"
    assert refusal.trailing["x-penstock-version"] == "assistant@v1"
    assert refusal.trailing["x-request-id"] == refusal.info.metadata["request_id"]
    assert gateway.record.outcome == "failed"


def test_a_stream_that_breaks_off(gateway: GrpcGateway) -> None:
    call = gateway.stream(chat("break"))
    found: list[Any] = []
    with pytest.raises(grpc.RpcError) as broken:
        found.extend(call)
    assert refusal_of(broken.value).reason == "ENGINE_ERROR"
    assert gateway.record.choices[0].text == "one"


def test_list_endpoints(gateway: GrpcGateway) -> None:
    gateway.engine.not_ready["assistant@v2"] = "loading"
    try:
        listed = gateway.stub.ListEndpoints(pb.ListEndpointsRequest(), timeout=20).endpoints
    finally:
        gateway.engine.not_ready.clear()
    assert [one.name for one in listed] == ["assistant", "free"]
    found = [(v.name, v.share, v.ready, v.reason, v.determinism) for v in listed[0].versions]
    assert found == [("v1", 1.0, True, "", "free"), ("v2", 0.0, False, "loading", "free")]
    assert listed[0].versions[0].fingerprint == gateway.generate(chat("hi")).head.fingerprint
    assert "seed" in listed[0].versions[0].features
