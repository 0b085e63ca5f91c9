"""One request, one tree: from the client's span down to the model's compute, over a real gateway and a real Triton."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.running import Running, serving
from tests.telemetry.otlp_receiver import Receiver, Span, tree

CONFIG = """
[traces]
otlp = "{url}"
share = 0.0

[endpoints.assistant.versions.v1]
model = "assistant"
model_version = "1"

[endpoints.open]
content_in_traces = true

[endpoints.open.versions.v1]
model = "assistant"
model_version = "1"
"""
CLIENT_SPAN = "b7ad6b7169203331"
SECRET = "What is a penstock?"
# Triton loses the spans of some short requests (docs/traces.md), so one tree of several has to be whole.
TRIES = 8


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture(scope="module")
def gateway(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = CONFIG.format(url=receiver.url)
    with serving(tmp_path_factory.mktemp("traces"), "--workers", "2", config=config) as running:
        yield running


def ask(gateway: Running, traceparent: str | None, *, model: str = "assistant", max_tokens: int = 16) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": SECRET}],
            "max_tokens": max_tokens,
        },
        headers={} if traceparent is None else {"traceparent": traceparent},
        timeout=60,
    )


def trace_id() -> str:
    return os.urandom(16).hex()


def of(spans: list[Span], trace: str) -> list[Span]:
    return [span for span in spans if span.trace == trace]


def test_one_tree_from_the_client_to_the_compute(gateway: Running, receiver: Receiver) -> None:
    traces = [trace_id() for _ in range(TRIES)]
    for trace in traces:
        assert ask(gateway, f"00-{trace}-{CLIENT_SPAN}-01").status_code == 200

    def whole(spans: list[Span]) -> list[str]:
        return [trace for trace in traces if len(of(spans, trace)) >= 5]

    receiver.until(lambda spans: all(len(of(spans, trace)) >= 2 for trace in traces), "two spans of ours for each")
    spans = receiver.until(lambda spans: bool(whole(spans)), "a tree with Triton's spans")
    spans = of(spans, whole(spans)[0])
    by_name = {span.name: span for span in spans}
    request, engine = by_name["chat assistant"], by_name["triton assistant@v1"]
    infer, compute = by_name["InferRequest"], by_name["compute"]
    (model,) = [span for span in spans if span.span == compute.parent]
    path = [request, engine, infer, model, compute]
    assert [span.parent for span in path] == [CLIENT_SPAN, *[span.span for span in path[:-1]]]
    assert [span.service for span in path] == ["penstock"] * 2 + ["triton"] * 3
    assert [span.start for span in path] == sorted(span.start for span in path), "each begins within its parent"
    assert len(spans) == len(path)
    assert SECRET not in repr(spans)
    print(f"\n{tree(spans, CLIENT_SPAN)}")


def test_what_is_not_sampled_has_no_spans(gateway: Running, receiver: Receiver) -> None:
    before = {span.trace for span in receiver.spans}
    assert ask(gateway, f"00-{trace_id()}-{CLIENT_SPAN}-00").status_code == 200
    assert ask(gateway, None).status_code == 200
    loud = [trace_id() for _ in range(TRIES)]
    for trace in loud:
        assert ask(gateway, f"00-{trace}-{CLIENT_SPAN}-01").status_code == 200
    # Triton's spans of a later request are there, and ours: those of the quiet ones would be, too.
    spans = receiver.until(
        lambda spans: any(len(of(spans, trace)) >= 5 for trace in loud), "a later request's spans, Triton's as well"
    )
    assert {span.trace for span in spans} <= {*loud, *before}


def test_a_refusal_is_one_span_of_the_callers_trace(gateway: Running, receiver: Receiver) -> None:
    trace = trace_id()
    assert ask(gateway, f"00-{trace}-{CLIENT_SPAN}-01", max_tokens=0).status_code == 400
    (span,) = of(receiver.until(lambda spans: bool(of(spans, trace)), "the refused request"), trace)
    assert span.parent == CLIENT_SPAN
    assert span.attributes["penstock.outcome"] == "refused"


def test_content_goes_along_where_the_endpoint_says_so(gateway: Running, receiver: Receiver) -> None:
    trace = trace_id()
    answer = ask(gateway, f"00-{trace}-{CLIENT_SPAN}-01", model="open")
    spans = receiver.until(lambda spans: len(of(spans, trace)) >= 2, "the request's spans")
    (request,) = [span for span in of(spans, trace) if span.name == "chat open"]
    assert SECRET in request.attributes["gen_ai.input.messages"]
    assert (
        answer.json()["choices"][0]["message"]["content"]
        in json.loads(request.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"]
    )
