"""Malformed requests, each in its own way: a 4xx in OpenAI's shape, no traceback, nothing at the engine.

And nothing kept: memory stays flat over rounds of all of them.
"""

import gc
import json
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.http_reply import HotCycle
from gateway.inference import Inference
from tests.inprocess import Answered, Gateway, Wire

MIB = 1 << 20
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "hi"}]


class Case(NamedTuple):
    """Bytes to send; `owed` says that they are not all, so that the sweep must act."""

    data: bytes
    status: int
    code: str
    owed: bool = False


def post(content: bytes, *headers: str, path: str = CHAT) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def chat(**fields: Any) -> bytes:
    return post(json.dumps({"model": "assistant", "messages": HI, **fields}).encode())


def text(**fields: Any) -> bytes:
    return post(json.dumps({"model": "assistant", "prompt": "hi", **fields}).encode(), path=TEXT)


def raw(members: bytes) -> bytes:
    return post(b'{"model":"assistant","messages":[{"role":"user","content":"hi"}],%b}' % members)


def head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: x", *headers, "", ""]).encode("latin-1")


def message(**fields: Any) -> bytes:
    return chat(messages=[fields])


JSON, VALUE, NO = "invalid_json", "invalid_request", "unsupported_feature"
CASES = {
    # not JSON
    "empty body": Case(post(b""), 400, JSON),
    "open brace": Case(post(b"{"), 400, JSON),
    "text": Case(post(b"hello"), 400, JSON),
    "form": Case(post(b"model=assistant&n=1"), 400, JSON),
    "trailing comma": Case(raw(b'"n":1,'), 400, JSON),
    "single quotes": Case(raw(b"'n':1"), 400, JSON),
    "two objects": Case(post(b'{"model":"a","messages":[]}{}'), 400, JSON),
    "a list": Case(post(b"[]"), 400, JSON),
    "null": Case(post(b"null"), 400, JSON),
    "NaN": Case(raw(b'"temperature":NaN'), 400, JSON),
    "control character": Case(raw(b'"user":"a\nb"'), 400, JSON),
    "invalid UTF-8": Case(raw(b'"user":"\xc3\x28"'), 400, JSON),
    "encoded surrogate": Case(raw(b'"user":"\xed\xa0\x80"'), 400, JSON),
    "lone surrogate": Case(raw(b'"user":"\\ud800"'), 400, JSON),
    "UTF-16": Case(post('{"model":"assistant"}'.encode("utf-16")), 400, JSON),
    "gzip": Case(post(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "content-encoding: gzip"), 400, JSON),
    "lists 100,000 deep": Case(raw(b'"x":' + b"[" * 100_000), 400, JSON),
    "objects 100,000 deep": Case(raw(b'"x":' + b'{"a":' * 100_000), 400, JSON),
    # wrong values
    "no model": Case(post(b'{"messages":[]}'), 400, VALUE),
    "model is a number": Case(chat(model=7), 400, VALUE),
    "unknown model": Case(chat(model="gpt-4o"), 404, "model_not_found"),
    "a model of 50,000 characters": Case(chat(model="m" * 50_000), 404, "model_not_found"),
    "unknown version": Case(chat(model="assistant@v99"), 404, "model_not_found"),
    "two pins": Case(
        post(b'{"model":"assistant@v1","messages":[{"role":"user","content":"a"}]}', "x-penstock-version: v2"),
        400,
        VALUE,
    ),
    "no messages": Case(post(b'{"model":"assistant"}'), 400, VALUE),
    "empty messages": Case(chat(messages=[]), 400, VALUE),
    "messages is text": Case(chat(messages="hi"), 400, VALUE),
    "a message is text": Case(chat(messages=["hi"]), 400, VALUE),
    "unknown role": Case(message(role="robot", content="hi"), 400, VALUE),
    "no role": Case(message(content="hi"), 400, VALUE),
    "null content": Case(message(role="user", content=None), 400, VALUE),
    "content is a number": Case(message(role="user", content=5), 400, VALUE),
    "an image": Case(message(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}]), 400, NO),
    "a part without text": Case(message(role="user", content=[{"type": "text"}]), 400, VALUE),
    "max_tokens 0": Case(chat(max_tokens=0), 400, VALUE),
    "max_tokens of 5,000 digits": Case(raw(b'"max_tokens":' + b"9" * 5000), 400, VALUE),
    "max_tokens beyond the version's": Case(chat(max_tokens=2**31 - 1), 400, VALUE),
    "max_tokens is text": Case(chat(max_tokens="5"), 400, VALUE),
    "two token limits": Case(chat(max_tokens=5, max_completion_tokens=6), 400, VALUE),
    "temperature 1e308": Case(chat(temperature=1e308), 400, VALUE),
    "temperature 1e999": Case(raw(b'"temperature":1e999'), 400, VALUE),
    "temperature -1": Case(chat(temperature=-1), 400, VALUE),
    "top_p 0": Case(chat(top_p=0), 400, VALUE),
    "n 0": Case(chat(n=0), 400, VALUE),
    "n 1000000": Case(chat(n=10**6), 400, VALUE),
    "n beyond the version's": Case(chat(n=100), 400, VALUE),
    "seed beyond 64 bits": Case(chat(seed=2**80), 400, VALUE),
    "stream is text": Case(chat(stream="yes"), 400, VALUE),
    "an empty stop": Case(chat(stop=""), 400, VALUE),
    "a thousand stops": Case(chat(stop=["x"] * 1000), 400, VALUE),
    "top_logprobs": Case(chat(logprobs=True, top_logprobs=5), 400, NO),
    "tools": Case(chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400, NO),
    "logit_bias": Case(chat(logit_bias={"1": 100}), 400, NO),
    "a long user": Case(chat(user="u" * 10_000), 400, VALUE),
    "a format without a schema": Case(chat(response_format={"type": "json_schema"}), 400, VALUE),
    "a huge integer in a schema": Case(
        raw(b'"response_format":{"type":"json_schema","json_schema":{"schema":{"maximum":%b}}}' % (b"9" * 30)),
        400,
        VALUE,
    ),
    "a deep schema": Case(
        raw(b'"response_format":{"type":"json_schema","json_schema":{"schema":%b{}%b}}' % (b'{"not":' * 99, b"}" * 99)),
        400,
        VALUE,
    ),
    "an empty prompt": Case(text(prompt=""), 400, VALUE),
    "token ids": Case(text(prompt=[1, 2, 3]), 400, NO),
    "a thousand prompts": Case(text(prompt=["x"] * 1000), 400, VALUE),
    "echo": Case(text(echo=True), 400, NO),
    "best_of": Case(text(best_of=5), 400, NO),
    "a deadline that is none": Case(post(b"{}", "x-penstock-timeout-ms: soon"), 400, VALUE),
    # not a request that a route takes
    "no route": Case(head("GET", "/v2/chat"), 404, "not_found"),
    "no such model": Case(head("GET", "/v1/models/org%2Fnone"), 404, "model_not_found"),
    "GET on chat": Case(head("GET", CHAT), 405, "method_not_allowed"),
    "DELETE on models": Case(head("DELETE", "/v1/models"), 405, "method_not_allowed"),
    "PUT with a body": Case(head("PUT", TEXT, "content-length: 2") + b"{}", 405, "method_not_allowed"),
    # not HTTP, or too much of it
    "no HTTP": Case(b"HELO example.org\r\n", 400, "invalid_http"),
    "a header without a colon": Case(head("GET", "/health", "nothing"), 400, "invalid_http"),
    "two lengths": Case(post(b"{}", "content-length: 3"), 400, "invalid_http"),
    "a length that is none": Case(head("POST", CHAT, "content-length: much"), 400, "invalid_http"),
    "a target without a path": Case(head("GET", "http://x"), 400, "invalid_http"),
    "20 MB, declared": Case(post(b"x" * (20 * MIB)), 413, "request_too_large"),
    "20 MB, in chunks": Case(
        head("POST", CHAT, "transfer-encoding: chunked") + (b"100000\r\n" + b"x" * MIB + b"\r\n") * 20 + b"0\r\n\r\n",
        413,
        "request_too_large",
    ),
    "2 TB, announced": Case(head("POST", CHAT, "content-length: 2000000000000"), 413, "request_too_large"),
    "chunks of no size": Case(head("POST", CHAT, "transfer-encoding: chunked") + b"zz\r\n", 400, "invalid_http"),
    "a thousand headers": Case(
        head("GET", "/health", *(f"x-{at}: {'y' * 50}" for at in range(1000))), 431, "headers_too_large"
    ),
    "a header of a megabyte": Case(head("GET", "/health", "x: " + "y" * MIB), 431, "headers_too_large"),
    "a URL of a megabyte": Case(head("GET", "/" + "a" * MIB), 431, "headers_too_large"),
    "slow headers": Case(b"POST /v1/chat/completions HTTP/1.1\r\nhost", 408, "request_timeout", owed=True),
    "a slow body": Case(post(b"{}")[:-1], 408, "request_timeout", owed=True),
    "a slow chunk": Case(
        head("POST", CHAT, "transfer-encoding: chunked") + b"5\r\n{", 408, "request_timeout", owed=True
    ),
}


def test_there_are_sixty() -> None:
    assert len({case.data for case in CASES.values()}) == len(CASES) >= 60


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(("Hello", " world")) as one:
        yield one
        assert one.loop_errors == []


def send(gateway: Gateway, case: Case) -> Answered:
    with gateway.connect() as wire:
        try:
            for at in range(0, len(case.data), 256 * 1024):
                wire.send(case.data[at : at + 256 * 1024])
        except ConnectionError:
            pass  # it was refused before all was sent, which is for the client to find out by reading
        if case.owed:
            gateway.until(lambda: any(one._header_bytes for one in gateway.front.connections))
            gateway.sweep(60)
        return wire.read_answer()


@pytest.mark.parametrize("name", CASES)
def test_each_is_refused_in_openais_shape(gateway: Gateway, name: str, caplog: pytest.LogCaptureFixture) -> None:
    case = CASES[name]
    answer = send(gateway, case)
    assert (answer.status, answer.error["code"]) == (case.status, case.code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.error
    assert error["type"] == "invalid_request_error"
    assert 10 < len(error["message"]) < 600
    assert "Traceback" not in error["message"]
    assert caplog.text == ""
    assert gateway.engine.calls == []


GOOD = chat()


def works(wire: Wire) -> bool:
    wire.send(GOOD)
    answer = wire.read_answer()
    return b'"content":"Hello world"' in answer.body


def all_settled(gateway: Gateway) -> Callable[[], bool]:
    return lambda: not gateway.front.connections and gateway.stats.in_flight == 0


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_stays_flat_and_the_gateway_goes_on(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    # Those of megabytes cost time, and keeping any of it would show in the test below.
    cases = [case for case in CASES.values() if len(case.data) < MIB]

    def round_() -> tuple[int, int]:
        for case in cases:
            assert send(gateway, case).status == case.status
        gateway.sweep(60)
        gateway.until(all_settled(gateway))
        gateway.records.clear()
        gc.collect()
        return sys.getallocatedblocks(), resident()

    round_()
    blocks, size = round_()  # caches are full
    for _ in range(18):
        blocks_after, size_after = round_()
    # 18 rounds of 80 refusals: two objects kept of each would be 2,880 blocks, its 8 KB 12 MB.
    assert blocks_after - blocks < 2000
    assert size_after - size < 10 * MIB
    assert caplog.text == ""
    with gateway.connect() as wire:
        assert works(wire)
    assert len(gateway.engine.calls) == 1
    gateway.engine.calls.clear()


def test_of_20_mb_no_more_is_held_than_the_limit(gateway: Gateway) -> None:
    tracemalloc.start()
    try:
        assert send(gateway, CASES["20 MB, in chunks"]).status == 413
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * MIB  # 4 MiB in pieces, and what is on its way


def test_served_requests_are_freed_without_the_collector(gateway: Gateway) -> None:
    def alive() -> int:
        return sum(type(one) in (HotCycle, Inference) for one in gc.get_objects())

    gateway.until(all_settled(gateway))
    gc.collect()
    gc.disable()
    try:
        before = alive()
        with gateway.connect() as wire:
            for data in (GOOD, chat(stream=True), chat(n=2, stop=["wor"]), chat(model="nobody"), chat(n=100)) * 5:
                wire.send(data)
                wire.read_answer()
        gateway.until(all_settled(gateway))
        gateway.engine.calls.clear()
        assert alive() <= before + 2  # the connection's last one
    finally:
        gc.enable()
