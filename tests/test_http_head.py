"""A head that is known again means what it meant to the parser, and nothing else is taken for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.dialects.registry import BY_PATH
from gateway.http_head import HeadMemory, RequestHead, remember
from tests.inprocess import Answered, Gateway, Wire, endpoint

CHAT = BY_PATH[b"/v1/chat/completions"]
PROMPTS = ("hi", "a longer prompt", "p" * 900, "p" * 9000)


def body(prompt: str = "hi", **fields: Any) -> bytes:
    return json.dumps({"model": "assistant", "messages": [{"role": "user", "content": prompt}], **fields}).encode()


def post(content: bytes | None = None, *headers: str, path: str = "/v1/chat/completions", length: str = "") -> bytes:
    """The headers stand on both sides of the content-length."""
    content = body() if content is None else content
    lines = [f"POST {path} HTTP/1.1", "host: x", "authorization: Bearer a", *headers]
    lines += [f"Content-Length: {length or len(content)}", "accept: */*", "", ""]
    return "\r\n".join(lines).encode() + content


def learnt(data: bytes, **changes: Any) -> HeadMemory | None:
    """What a connection remembers of a request that the parser took."""
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return remember(RequestHead(CHAT, headers, keep_alive=True, chunked=True), data)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_same_head_with_another_body_is_known(prompt: str) -> None:
    memory = learnt(post())
    assert memory is not None
    content = body(prompt)
    assert memory.body_of(post(content)) == content


PLAIN = post()
OTHERS = {
    "another path": post(path="/v1/completions"),
    "another key": PLAIN.replace(b"Bearer a", b"Bearer b"),
    "one more header before": post(None, "x-a: b"),
    "one more header after": PLAIN.replace(b"accept: */*\r\n", b"accept: */*\r\nx-a: b\r\n"),
    "another header after": PLAIN.replace(b"accept: */*", b"accept: x/x"),
    "another case": PLAIN.replace(b"Content-Length", b"content-length"),
    "the body is not all there": PLAIN[:-1],
    "more than the body": PLAIN + b"P",
    "two requests": PLAIN + PLAIN,
    "no digits": post(length=" "),
    "a sign": post(length=f"+{len(body())}"),
    "hex": post(length="0x10"),
    "a blank": post(length=f"{len(body())} "),
    "a list": post(length=f"{len(body())}, {len(body())}"),
    "a number beyond reason": post(length="1" * 40),
    "digits of another script": post().replace(str(len(body())).encode(), "\u0668\u0661".encode()),
    "the head alone": PLAIN.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
    "a piece of the head": PLAIN[:40],
    "nothing": b"",
    "an empty line first": b"\r\n" + PLAIN,
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_anything_else_is_for_the_parser(data: bytes) -> None:
    memory = learnt(PLAIN)
    assert memory is not None
    assert memory.body_of(data) is None


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace(b"Content-Length: ", b"X-Length: "),
        PLAIN.replace(b"accept: */*", b"expect: 100-continue"),
        PLAIN.replace(b"accept: */*", b"upgrade: h2c"),
        PLAIN.replace(b"accept: */*", b"content-length: %d" % len(body())),
        post(length=f"{len(body())} "),
    ],
    ids=["no length", "expect", "upgrade", "two lengths", "a blank after the length"],
)
def test_what_is_not_remembered(data: bytes) -> None:
    assert learnt(data) is None


# On a real connection


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    def echo(_: Any, job: Any) -> Any:
        return (f"echo {job.prompt}",)

    with Gateway(echo, endpoint("assistant"), body_bytes=100_000) as one:
        yield one
        one.idle()
        assert one.loop_errors == []


def told(answer: Answered) -> tuple[int, dict[str, str], str]:
    """What of an answer is the same every time."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    headers.pop("openai-processing-ms", None)
    return answer.status, headers, re.sub(r'"(id|created)":("[^"]*"|\d+)', "", answer.body.decode())


def primed(gateway: Gateway, wire: Wire) -> None:
    """The connection remembers the head of PLAIN."""
    for _ in range(2):
        wire.send(PLAIN)
        assert wire.read_answer().status == 200
    (connection,) = gateway.front.connections
    assert connection._memory is not None


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_answer_to_a_known_head_is_the_same(gateway: Gateway, prompt: str) -> None:
    with gateway.connect() as fresh:
        fresh.send(post(body(prompt)))
        expected = told(fresh.read_answer())
    gateway.until(lambda: not gateway.front.connections)
    with gateway.connect() as wire:
        primed(gateway, wire)
        for _ in range(2):
            wire.send(post(body(prompt)))
            assert told(wire.read_answer()) == expected
    gateway.until(lambda: not gateway.front.connections)


SECOND = {
    "bad JSON": post(b"{"),
    "no such model": post(body(model="nope")),
    "too large a body": post(b" " * 200_000),
    "another path": post(b'{"model": "assistant", "prompt": "x"}', path="/v1/completions"),
    "a stream": post(body(stream=True)),
    "a header more": post(None, "x-penstock-timeout-ms: never"),
    "one deadline": post(None, "x-penstock-timeout-ms: 60000"),
    "no HTTP": b"garbage\r\n\r\n",
    "a smuggled request": post(length="3"),
    "empty": post(b""),
}


@pytest.mark.parametrize("data", SECOND.values(), ids=SECOND)
def test_what_follows_a_known_head_is_answered_as_on_a_fresh_connection(gateway: Gateway, data: bytes) -> None:
    with gateway.connect() as fresh:
        fresh.send(data)
        expected = told(fresh.read_answer())
    gateway.until(lambda: not gateway.front.connections)
    with gateway.connect() as wire:
        primed(gateway, wire)
        wire.send(data)
        assert told(wire.read_answer()) == expected
    gateway.until(lambda: not gateway.front.connections)


@pytest.mark.parametrize("cut", [1, 30, len(PLAIN) - len(body()), len(PLAIN) - 1])
def test_a_known_request_in_two_pieces(gateway: Gateway, cut: int) -> None:
    with gateway.connect() as wire:
        primed(gateway, wire)
        (connection,) = gateway.front.connections
        for _ in range(2):
            wire.send(PLAIN[:cut])
            gateway.until(lambda: not connection._idle)
            wire.send(PLAIN[cut:])
            assert wire.read_answer().status == 200
    gateway.until(lambda: not gateway.front.connections)


def test_known_requests_in_one_piece_are_answered_in_order(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        primed(gateway, wire)
        wire.send(b"".join(post(body(f"prompt {number}")) for number in range(5)))
        for number in range(5):
            assert f"echo prompt {number}" in wire.read_answer().body.decode()
    gateway.until(lambda: not gateway.front.connections)


def test_heads_of_their_own_are_not_learnt_for_ever(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        primed(gateway, wire)
        (connection,) = gateway.front.connections
        for number in range(8):
            wire.send(post(None, f"traceparent: {number}"))
            assert wire.read_answer().status == 200
        kept = connection._memory
        wire.send(post(None, "traceparent: 9"))
        assert wire.read_answer().status == 200
        assert connection._memory is kept
    gateway.until(lambda: not gateway.front.connections)


def test_a_head_is_never_learnt_for_another_request(gateway: Gateway) -> None:
    """A request that came in pieces is followed by one, whole, for a route that is not hot."""
    other = post(path="/v1/elsewhere")
    with gateway.connect() as wire:
        (connection,) = gateway.until(lambda: list(gateway.front.connections))
        wire.send(PLAIN[:30])
        gateway.until(lambda: not connection._idle)
        wire.send(PLAIN[30:])
        assert wire.read_answer().status == 200
        for _ in range(3):
            wire.send(other)
            assert wire.read_answer().status == 404
        assert connection._memory is None
    gateway.until(lambda: not gateway.front.connections)
