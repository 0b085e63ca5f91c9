"""The HTTP front over real sockets: framing, order, limits, refusals, and clients that misbehave or leave."""

import inspect
import itertools
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.core.errors import EngineError, EngineUnavailable
from gateway.engines.base import Result
from gateway.engines.scripted import HOLD, Chunk
from gateway.http_front import LINGER_S
from gateway.http_reply import HotCycle
from tests.inprocess import Answered, Gateway, Wire, endpoint

SCRIPTS: dict[str, Any] = {
    "hi": ("Hello", " world"),
    "wait": ("one", HOLD, "two"),
    "mute": (HOLD, "late"),
    "fail": (EngineError("the engine broke"),),
    "break": ("one", EngineError("the engine broke")),
    "surrogate": ("ok", Chunk("\ud800")),  # no dialect can write it: a defect on the way down
    "big": ("x" * 100_000,) * 400,
}


def script(_: Any, job: Any) -> Any:
    return SCRIPTS.get(job.prompt, (f"echo {job.prompt}",))


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    seeded = endpoint("seeded", determinism="seeded")
    plain = endpoint("assistant", "v1", "v2", split={"v1": 1.0, "v2": 0.0})
    with Gateway(script, plain, seeded, header_bytes=4096, body_bytes=100_000, client_buffer_bytes=50_000) as one:
        yield one
        one.idle()
        assert one.loop_errors == []


@pytest.fixture(autouse=True)
def forgotten(gateway: Gateway) -> None:
    """Each test sees its own jobs only."""
    gateway.idle()
    gateway.on_loop(gateway.engine.calls.clear)


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[Wire]:
    with gateway.connect() as one:
        yield one


def body(prompt: str = "hi", **fields: Any) -> bytes:
    return json.dumps({"model": "assistant", "messages": [{"role": "user", "content": prompt}], **fields}).encode()


def post(
    content: bytes | None = None, *headers: str, path: str = "/v1/chat/completions", version: str = "1.1", **fields: Any
) -> bytes:
    """A POST as bytes; `fields` are the body's."""
    content = body(**fields) if content is None else content
    lines = [f"POST {path} HTTP/{version}", "host: x", f"content-length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def get(path: str = "/v1/models", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "host: x", *headers, "", ""]).encode()


def said(answer: Answered) -> str:
    text: str = json.loads(answer.body)["choices"][0]["message"]["content"]
    return text


def streamed(data: bytes) -> str:
    """The text of a chat stream; it must end in [DONE]."""
    events = [line.removeprefix("data: ") for line in data.decode().split("\n\n")[:-1]]
    assert events[-1] == "[DONE]"
    deltas = [choice["delta"] for event in events[:-1] for choice in json.loads(event)["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


# Keep-alive, versions of HTTP, ways to say where a body ends


def test_one_connection_serves_request_after_request(wire: Wire) -> None:
    for _ in range(3):
        wire.send(post())
        answer = wire.read_answer()
        assert (answer.status, said(answer)) == (200, "Hello world")
        assert "connection" not in answer.headers
        wire.send(post(stream=True))
        answer = wire.read_answer()
        assert (answer.headers["content-type"], streamed(answer.body)) == (
            "text/event-stream; charset=utf-8",
            "Hello world",
        )
        wire.send(get())
        assert json.loads(wire.read_answer().body)["object"] == "list"
        wire.send(post(b"{"))
        assert wire.read_answer().status == 400  # an error ends no connection


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("version", "header"), [("1.0", "x: y"), ("1.0", "connection: keep-alive"), ("1.1", "connection: close")]
)
def test_a_connection_that_ends_with_the_answer(wire: Wire, version: str, header: str, stream: bool) -> None:
    wire.send(post(None, header, version=version, stream=stream))
    answer = wire.read_answer()
    assert answer.headers["connection"] == "close"
    assert ("transfer-encoding" in answer.headers) == (stream and version == "1.1")
    assert (streamed(answer.body) if stream else said(answer)) == "Hello world"
    assert wire.at_end()


def test_expect_100_continue(wire: Wire) -> None:
    head, _, content = post(None, "expect: 100-continue").partition(b"\r\n\r\n")
    wire.send(head + b"\r\n\r\n")
    assert wire.read_answer().status == 100
    wire.send(content)
    assert said(wire.read_answer()) == "Hello world"


def test_expect_100_continue_on_a_body_that_is_too_large_is_answered_at_once(wire: Wire) -> None:
    wire.send(post(b"", "expect: 100-continue").replace(b"length: 0", b"length: 100001"))
    assert wire.read_answer().status == 413


def test_100_continue_waits_for_its_turn(gateway: Gateway, wire: Wire) -> None:
    head, _, content = post(None, "expect: 100-continue").partition(b"\r\n\r\n")
    wire.send(post(prompt="wait", stream=True) + head + b"\r\n\r\n")
    held = gateway.held()
    gateway.release(held)
    assert streamed(wire.read_answer().body) == "onetwo"  # not one byte in the midst of it
    assert wire.read_answer().status == 100
    wire.send(content)
    assert said(wire.read_answer()) == "Hello world"


CHUNKED = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), cuts=st.lists(st.integers(0, 400), max_size=4))
def test_chunked_bodies_cut_at_any_byte(gateway: Gateway, sizes: list[int], cuts: list[int]) -> None:
    content = body("Größe 🙂")
    data, at = CHUNKED, 0
    for size in [*sizes, len(content)]:
        piece = content[at : at + size]
        at += size
        if piece:
            data += b"%x;ext=1\r\n%b\r\n" % (len(piece), piece)
    data += b"0\r\ntrailer: x\r\n\r\n"
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    with gateway.connect() as wire:
        for start, end in itertools.pairwise(edges):
            wire.send(data[start:end])
        assert said(wire.read_answer()) == "echo Größe 🙂"


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 60))
def test_any_request_in_small_pieces(gateway: Gateway, size: int) -> None:
    data = post(prompt="small") + get("/health") + post(prompt="pieces")
    with gateway.connect() as wire:
        for at in range(0, len(data), size):
            wire.send(data[at : at + size])
        assert said(wire.read_answer()) == "echo small"
        assert json.loads(wire.read_answer().body) == {"status": "ok"}
        assert said(wire.read_answer()) == "echo pieces"


def test_no_delay_is_set(gateway: Gateway, wire: Wire) -> None:
    wire.send(get("/health"))
    wire.read_answer()

    def of_the_server() -> list[int]:
        sockets = [one.transport.get_extra_info("socket") for one in gateway.front.connections]
        return [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets]

    found = gateway.on_loop(of_the_server)
    assert found
    assert all(found)


@pytest.mark.parametrize(
    "target",
    [
        "http://elsewhere:99/v1/chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completions?a=b",
        "/%761/chat/completions",
    ],
)
def test_the_same_target_written_another_way(wire: Wire, target: str) -> None:
    wire.send(post(path=target))
    assert said(wire.read_answer()) == "Hello world"


H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")


@pytest.mark.parametrize("size", [30, 100_000])
def test_an_upgrade_is_not_taken_and_the_request_is_answered(wire: Wire, size: int) -> None:
    # Java's own client offers h2c with every request, bodies included.
    data = post(None, *H2C) + CHUNKED.replace(b"host: x", "\r\n".join(H2C).encode()) + b"2\r\n{}\r\n0\r\n\r\n"
    data += get("/health", "connection: upgrade", "upgrade: websocket") + post(prompt="after")
    for at in range(0, len(data), size):
        wire.send(data[at : at + size])
    assert said(wire.read_answer()) == "Hello world"
    assert wire.read_answer().error["param"] == "model"
    assert json.loads(wire.read_answer().body) == {"status": "ok"}
    assert said(wire.read_answer()) == "echo after"


# Pipelining

KINDS = {
    "hot": (post(prompt="hi"), 200),
    "stream": (post(prompt="hi", stream=True), 200),
    "bad": (post(b"{"), 400),
    "engine": (post(prompt="fail"), 502),
    "models": (get(), 200),
    "lost": (get("/nowhere"), 404),
    "put": (get("/v1/chat/completions", method="PUT"), 405),
}


@settings(max_examples=30, deadline=None)
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=8))
def test_pipelined_requests_are_answered_in_order(gateway: Gateway, kinds: list[str]) -> None:
    with gateway.connect() as wire:
        data = b""
        for at, kind in enumerate(kinds):
            data += KINDS[kind][0].replace(b"host: x", b"host: x\r\nx-request-id: r%d" % at)
        wire.send(data)
        for at, kind in enumerate(kinds):
            answer = wire.read_answer()
            assert (answer.status, answer.headers["x-request-id"]) == (KINDS[kind][1], f"r{at}")
        wire.send(get("/health", "connection: close"))
        assert wire.read_answer().status == 200
        assert wire.at_end()


def test_a_pipelined_request_begins_when_the_earlier_is_complete(gateway: Gateway, wire: Wire) -> None:
    before = len(gateway.engine.calls)
    wire.send(post(prompt="wait") + post(prompt="second"))
    first = gateway.held()
    assert len(gateway.engine.calls) == before + 1
    gateway.release(first)
    assert said(wire.read_answer()) == "onetwo"
    assert said(wire.read_answer()) == "echo second"


def test_a_keep_alive_timer_of_an_earlier_answer_does_not_cut_a_later(gateway: Gateway, wire: Wire) -> None:
    wire.send(post(b"{") + post(prompt="wait", stream=True))  # the first is answered while the second is still unread
    held = gateway.held()
    (connection,) = (one for one in gateway.front.connections if one.hot)
    assert gateway.on_loop(lambda: connection.timeout_keep_alive_task) is None
    gateway.release(held)
    assert wire.read_answer().status == 400
    assert streamed(wire.read_answer().body) == "onetwo"


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (b"\x00\xff garbage\r\n\r\n", 400),
        (post(b"").replace(b"length: 0", b"length: 100001"), 413),
        (CHUNKED + b"zz\r\n", 400),
        (get("/" + "a" * 5000), 431),
        (get("/health").replace(b"host", b"h ost"), 400),
        (get("/health", "content-length: x"), 400),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_waits_for_its_turn(gateway: Gateway, wire: Wire, second: bytes, status: int, stream: bool) -> None:
    wire.send(post(prompt="wait", stream=stream) + get("/health") + second)
    held = gateway.held()
    gateway.release(held)
    first = wire.read_answer()
    assert (streamed(first.body) if stream else said(first)) == "onetwo"
    assert json.loads(wire.read_answer().body) == {"status": "ok"}
    refusal = wire.read_answer()
    assert (refusal.status, refusal.headers["connection"]) == (status, "close")
    assert refusal.error["type"] == "invalid_request_error"
    assert wire.at_end()
    assert not held.cancelled


def test_time_does_not_run_for_a_body_that_we_do_not_read(gateway: Gateway, wire: Wire) -> None:
    whole = post(prompt="second")
    wire.send(post(prompt="wait", stream=True) + whole[:-5])
    held = gateway.held()
    gateway.sweep(1000)  # reading is paused until the first answer is complete
    gateway.release(held)
    assert streamed(wire.read_answer().body) == "onetwo"
    wire.send(whole[-5:])
    assert said(wire.read_answer()) == "echo second"


def test_an_empty_line_after_a_body_does_not_cut_the_answer(gateway: Gateway, wire: Wire) -> None:
    wire.send(post(prompt="wait", stream=True))
    held = gateway.held()
    wire.send(b"\r\n")
    gateway.until(lambda: any(one.hot and one.expires for one in gateway.front.connections))
    gateway.sweep(1000)
    gateway.release(held)
    assert streamed(wire.read_answer().body) == "onetwo"


# Refusals at the border

REFUSED = {
    "too large by length": (post(b"").replace(b"length: 0", b"length: 100001"), 413, "limits.body_bytes"),
    "too large by far": (post(b"").replace(b"length: 0", b"length: 99999999999999"), 413, "limits.body_bytes"),
    "length beyond 64 bits": (post(b"").replace(b"length: 0", b"length: 9" + b"9" * 30), 400, "HTTP/1.1"),
    "header flood": (get("/health", *(f"x-{at}: {'y' * 90}" for at in range(50))), 431, "4096"),
    "one large header": (get("/health", "x: " + "y" * 5000), 431, "4096"),
    "many small headers": (get("/health", *["a:"] * 2000), 431, "4096"),
    "long URL": (get("/" + "a" * 5000), 431, "4096"),
    "long query": (post(path="/v1/completions?" + "a" * 5000), 431, "4096"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 400, "HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "HTTP/1.1"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""),
    "HTTP/9": (get("/health", version="9.9"), 400, "HTTP/1.1"),
    "unknown method": (get("/health", method="BREW1"), 400, "HTTP/1.1"),
    "two lengths": (post(b"x", "content-length: 2"), 400, "HTTP/1.1"),
    "length and chunks": (post(b"", "transfer-encoding: chunked"), 400, "HTTP/1.1"),
    "negative length": (post(b"").replace(b"length: 0", b"length: -1"), 400, "HTTP/1.1"),
    "chunk without size": (CHUNKED + b"zz\r\n", 400, "HTTP/1.1"),
    "header without colon": (get("/health", "nothing"), 400, "HTTP/1.1"),
    "NUL in a header": (get("/health", "x: a\0b"), 400, "HTTP/1.1"),
    "folded header": (get("/health", "x: a", " b"), 400, "HTTP/1.1"),
    "target without path": (get("http://x"), 400, "target"),
    "target of CONNECT": (get("x:443", method="CONNECT"), 400, "target"),
    "target with a space": (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400, "HTTP/1.1"),
    "target that is no URL": (get("http://[::1/health"), 400, ""),
    "target in raw UTF-8": (get("/v1/mödels"), 400, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(gateway: Gateway, wire: Wire, name: str, caplog: pytest.LogCaptureFixture) -> None:
    data, status, piece = REFUSED[name]
    wire.send(data)
    answer = wire.read_answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req-")
    assert piece in answer.error["message"]
    assert wire.at_end()
    assert caplog.records == []
    gateway.sweep(LINGER_S + 1)


@pytest.mark.parametrize(
    "data",
    [
        post(b"", "x-request-id: mine").replace(b"length: 0", b"length: 100001"),
        CHUNKED.replace(b"host: x", b"x-request-id: mine") + b"zz\r\n",
    ],
)
def test_a_refusal_has_the_callers_request_id_where_it_was_read(wire: Wire, data: bytes) -> None:
    wire.send(data)
    assert wire.read_answer().headers["x-request-id"] == "mine"


def test_a_body_is_counted_and_the_client_can_still_read_the_answer(gateway: Gateway, wire: Wire) -> None:
    before = len(gateway.engine.calls)
    wire.send(CHUNKED)
    piece = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    for _ in range(300):  # it goes on sending three megabytes, as clients do; the answer must not be lost to a reset
        wire.send(piece)
    assert wire.read_answer().status == 413
    assert wire.at_end()
    gateway.sweep(LINGER_S + 1)
    gateway.until(lambda: not any(one._refused for one in gateway.front.connections))
    assert len(gateway.engine.calls) == before


def test_a_header_without_an_end_is_not_kept(gateway: Gateway, wire: Wire) -> None:
    wire.send(b"GET /health HTTP/1.1\r\nx: ")
    sent = 0
    try:
        while sent < 20_000_000:
            wire.send(b"y" * 65536)
            sent += 65536
            gateway.on_loop(lambda: None)
            if any(one._refused for one in gateway.front.connections):
                break
    finally:
        assert sent < 2_000_000
    assert wire.read_answer().status == 431


def test_empty_lines_without_an_end(gateway: Gateway, wire: Wire) -> None:
    for _ in range(10):
        wire.send(b"\r\n" * 1000)
    assert wire.read_answer().status == 431


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        (b"POST /v1/chat/comp", "headers"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-", "headers"),
        (post(prompt="never complete")[:-1], "body"),
        (CHUNKED + b"5\r\nab", "body"),
    ],
)
def test_slow_clients_are_told(gateway: Gateway, wire: Wire, data: bytes, piece: str) -> None:
    before = len(gateway.engine.calls)
    wire.send(data)
    gateway.until(lambda: any(one._header_bytes for one in gateway.front.connections))
    gateway.on_loop(lambda: None)
    gateway.sweep(9)  # in time
    gateway.sweep(31)
    answer = wire.read_answer()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert f"The request's {piece} did not arrive" in answer.error["message"]
    assert wire.at_end()
    assert len(gateway.engine.calls) == before


def test_a_connection_that_says_nothing_is_closed_without_a_word(gateway: Gateway, wire: Wire) -> None:
    gateway.until(lambda: gateway.front.connections)
    gateway.sweep(11)
    assert wire.at_end()


def test_the_sweep_leaves_those_alone_who_owe_nothing(gateway: Gateway, wire: Wire) -> None:
    wire.send(get("/health"))
    wire.read_answer()
    with gateway.connect() as other:
        other.send(post(prompt="wait", stream=True))
        held = gateway.held()
        gateway.sweep(gateway.limits.idle_timeout_s - 1)
        gateway.release(held)
        assert streamed(other.read_answer().body) == "onetwo"
    wire.send(get("/health"))
    assert wire.read_answer().status == 200


@pytest.mark.parametrize("request_", [get("/health"), post()], ids=["cold", "hot"])
def test_an_idle_connection_is_closed_by_the_sweep(gateway: Gateway, wire: Wire, request_: bytes) -> None:
    wire.send(request_)
    assert wire.read_answer().status == 200
    gateway.sweep(gateway.limits.idle_timeout_s + 1)
    assert wire.at_end()


def test_a_request_after_an_idle_time_has_its_full_time(gateway: Gateway, wire: Wire) -> None:
    wire.send(get("/health"))
    wire.read_answer()
    request = post()
    wire.send(request[:20])
    (connection,) = gateway.front.connections
    gateway.until(lambda: not connection._idle)
    gateway.sweep(gateway.limits.header_timeout_s - 1)
    wire.send(request[20:])
    assert wire.read_answer().status == 200


def test_a_refused_client_that_stays_is_cut_by_the_sweep(gateway: Gateway, wire: Wire) -> None:
    wire.send(b"garbage\r\n\r\n")
    wire.read_answer()
    wire.send(b"more")
    gateway.sweep(LINGER_S + 0.1)
    gateway.until(lambda: not any(one._refused for one in gateway.front.connections))


# Clients that leave, and clients that do not read


def reset(wire: Wire) -> None:
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


@pytest.mark.parametrize("leave", [reset, lambda wire: wire.socket.close()], ids=["reset", "close"])
@pytest.mark.parametrize(("prompt", "stream"), [("wait", True), ("wait", False), ("mute", True), ("mute", False)])
def test_a_client_that_leaves_cancels_the_engines_work(gateway: Gateway, prompt: str, stream: bool, leave: Any) -> None:
    wire = gateway.connect()
    wire.send(post(prompt=prompt, stream=stream, n=2))
    first, second = gateway.held(-2), gateway.held(-1)
    if stream and prompt == "wait":
        wire.read_until(b"one")
    leave(wire)
    gateway.until(lambda: first.cancelled and second.cancelled)
    gateway.idle()


def test_a_client_that_leaves_before_its_body_is_complete(gateway: Gateway) -> None:
    before = len(gateway.engine.calls)
    wire = gateway.connect()
    wire.send(post(prompt="hi")[:-1])
    gateway.until(lambda: any(one._receiving for one in gateway.front.connections))
    reset(wire)
    gateway.until(lambda: not gateway.front.connections)
    assert len(gateway.engine.calls) == before


def test_a_client_that_leaves_pipelined_requests_behind(gateway: Gateway) -> None:
    before = len(gateway.engine.calls)
    wire = gateway.connect()
    wire.send(post(prompt="wait", stream=True) + get("/health") + post(prompt="second"))
    held = gateway.held()
    reset(wire)
    gateway.release(held)  # reading was paused, so the loss shows at the next write
    gateway.until(lambda: not gateway.front.connections)
    gateway.idle()
    assert len(gateway.engine.calls) == before + 1


def test_a_client_that_does_not_read_is_cut(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with gateway.connect() as wire:
        wire.send(post(prompt="big", stream=True))
        call = gateway.call()
        gateway.until(lambda: call.cancelled)
        gateway.until(lambda: not gateway.front.connections)
        gateway.idle()
    assert "reads too slowly" in caplog.text


# Headers of answers


def test_headers_of_a_good_answer(wire: Wire) -> None:
    for stream in (False, True):
        wire.send(post(None, "x-request-id: my.id:1-2_3", stream=stream))
        headers = wire.read_answer().headers
        assert headers["x-request-id"] == "my.id:1-2_3"
        assert headers["x-penstock-version"] == "assistant@v1"
        assert headers["x-penstock-determinism"] == "free"
        assert headers["openai-processing-ms"].isdigit()
        assert "x-penstock-seed" not in headers


def test_the_pin_comes_in_a_header(wire: Wire) -> None:
    wire.send(post(None, "X-Penstock-Version: v2"))
    assert wire.read_answer().headers["x-penstock-version"] == "assistant@v2"


def test_a_seed_is_reported_and_can_be_sent_back(gateway: Gateway, wire: Wire) -> None:
    wire.send(post(model="seeded"))
    headers = wire.read_answer().headers
    assert headers["x-penstock-determinism"] == "seeded"
    assert gateway.call().job.sampling.seed == int(headers["x-penstock-seed"])
    for asked, reported in (("7", "7"), ("-1", str(2**64 - 1)), (str(2**64 - 1), str(2**64 - 1))):
        wire.send(post(body().replace(b"{", b'{"seed":%b,' % asked.encode(), 1)))
        assert wire.read_answer().headers["x-penstock-seed"] == reported


@pytest.mark.parametrize("asked", ["", "a b", "x" * 129, "naïve", '"q"', "a,b", "a/b"])
@pytest.mark.parametrize("request_", [post(), get("/health"), post(b"{"), get("/lost")])
def test_a_request_id_that_is_none_is_replaced(wire: Wire, asked: str, request_: bytes) -> None:
    wire.send(request_.replace(b"host: x", f"host: x\r\nx-request-id: {asked}".encode()))
    assert wire.read_answer().headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        *((post(), 200), (post(stream=True), 200), (post(b"{"), 400), (post(model="x"), 404), (get(), 200)),
        *((get("/lost"), 404), (get("/health", method="DELETE"), 405), (get("/v1/completions"), 405)),
        *((get("/v1/models/x"), 404), (post(prompt="fail"), 502), (get("/ready"), 200)),
        (get("/health", method="HEAD"), 200),
    ],
)
def test_a_request_id_is_on_everything(wire: Wire, request_: bytes, status: int) -> None:
    head_only = request_.startswith(b"HEAD")
    wire.send(request_.replace(b"host: x", b"host: x\r\nX-Request-ID: mine", 1))
    answer = wire.read_answer(head_only=head_only)
    assert (answer.status, answer.headers["x-request-id"]) == (status, "mine")
    wire.send(request_)
    assert wire.read_answer(head_only=head_only).headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("asked", ["0", "-5", "1.5", "abc", "86400001", "9" * 3000, "\xb2", " "])
def test_a_timeout_that_is_none(wire: Wire, asked: str) -> None:
    wire.send(post(None, "x-penstock-timeout-ms: " + asked).decode().encode("latin-1"))
    answer = wire.read_answer()
    assert (answer.status, answer.error["param"]) == (400, "x-penstock-timeout-ms")
    assert "from 1 to 86400000" in answer.error["message"]


def test_a_deadline_that_passes_cancels_the_engines_work(gateway: Gateway, wire: Wire) -> None:
    wire.send(post(None, "x-penstock-timeout-ms: 1", prompt="mute"))
    answer = wire.read_answer()
    assert (answer.status, answer.error["code"]) == (504, "timeout")
    assert answer.headers["x-penstock-version"] == "assistant@v1"
    assert gateway.call().cancelled


# Errors of the engine, and defects


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_text_is_a_status(wire: Wire, stream: bool) -> None:
    wire.send(post(prompt="fail", stream=stream))
    answer = wire.read_answer()
    assert (answer.status, answer.error["message"], answer.error["code"]) == (502, "the engine broke", "engine_error")
    assert answer.headers["x-penstock-version"] == "assistant@v1"
    assert "x-should-retry" not in answer.headers
    wire.send(get("/health"))
    assert wire.read_answer().status == 200


def test_a_failure_in_mid_stream_ends_it_with_an_error_and_the_connection(wire: Wire) -> None:
    wire.send(post(prompt="break", stream=True))
    answer = wire.read_answer()
    events = answer.body.decode().split("\n\n")[:-1]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["message"] == "the engine broke"
    assert "[DONE]" not in answer.body.decode()
    assert wire.at_end()


def test_a_failure_in_the_midst_of_a_whole_answer_is_a_status(wire: Wire) -> None:
    wire.send(post(prompt="break"))
    assert wire.read_answer().status == 502


def test_a_version_that_is_not_ready_is_named(gateway: Gateway, wire: Wire) -> None:
    gateway.engine.not_ready["assistant@v2"] = "loading"
    wire.send(post(model="assistant@v2"))
    answer = wire.read_answer()
    assert (answer.status, answer.headers["x-penstock-version"]) == (503, "assistant@v2")
    assert "loading" in answer.error["message"]
    gateway.engine.not_ready.clear()


def test_what_may_be_tried_again_and_when(caplog: pytest.LogCaptureFixture) -> None:
    with Gateway(script, concurrent_requests=1) as one, one.connect() as busy, one.connect() as wire:
        busy.send(post(prompt="wait"))
        held = one.held()
        wire.send(post())
        answer = wire.read_answer()
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert "x-should-retry" not in answer.headers
        one.release(held)
        busy.read_answer()
        wire.send(post())
        assert wire.read_answer().status == 200
        wire.send(post(b"{"))
        assert wire.read_answer().headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
def test_a_defect_on_the_way_down_is_one_proper_500(
    gateway: Gateway, wire: Wire, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    wire.send(post(None, "x-request-id: mine", prompt="surrogate", stream=stream))
    answer = wire.read_answer()
    if stream:
        last = answer.body.decode().split("\n\n")[-2]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "internal_error"
    else:
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert "surrogate" not in answer.error["message"]
    assert [record.getMessage() for record in caplog.records] == ["request mine failed by a defect"]
    assert caplog.records[0].exc_info is not None
    gateway.idle()


def test_a_defect_in_the_engines_call_is_one_proper_500(caplog: pytest.LogCaptureFixture) -> None:
    with Gateway({"hi": ("a",)}) as one, one.connect() as wire:  # the script knows no other prompt, and raises
        wire.send(post(prompt="other"))
        answer = wire.read_answer()
        assert (answer.status, answer.error["code"], one.stats.in_flight) == (500, "internal_error", 0)
        wire.send(post(prompt="hi"))
        assert said(wire.read_answer()) == "a"
    assert "LookupError" in caplog.text


def test_a_defect_in_a_dialect_is_one_proper_500(
    gateway: Gateway, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gateway.dialects.openai_chat import OpenAIChat

    monkeypatch.setattr(OpenAIChat, "parse", lambda *_: 1 / 0)
    wire.send(post())
    assert (answer := wire.read_answer()).status == 500
    assert answer.error["code"] == "internal_error"
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    wire.send(post())
    assert wire.read_answer().status == 200


def test_stop_strings_end_the_stream_and_the_engines_work(gateway: Gateway, wire: Wire) -> None:
    wire.send(post(prompt="wait", stream=True, stop=["on"]))
    assert streamed(wire.read_answer().body) == ""
    assert gateway.call().cancelled


def test_many_choices_keep_apart(wire: Wire) -> None:
    wire.send(post(prompt="hi", n=4))
    choices = json.loads(wire.read_answer().body)["choices"]
    assert [(c["index"], c["message"]["content"]) for c in choices] == [(at, "Hello world") for at in range(4)]


def test_a_connection_that_ends_the_server_ends_streams_in_order() -> None:
    with Gateway(script) as one, one.connect() as wire:
        wire.send(post(prompt="wait", stream=True))
        held = one.held()
        one.on_loop(lambda: [connection.shutdown() for connection in one.front.connections])
        one.release(held)
        assert streamed(wire.read_answer().body) == "onetwo"
        assert wire.at_end()


# The seam: what http_front leans on in uvicorn


def test_the_seam_is_the_minor_version_that_was_read() -> None:
    assert uvicorn.__version__.startswith("0.54.")


@pytest.mark.parametrize(
    "name",
    [
        *("connection_made", "connection_lost", "data_received", "eof_received", "on_message_begin", "on_url"),
        *("on_header", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
        *("_start_asgi_task", "shutdown"),
    ],
)
def test_the_seam_has_its_methods(name: str) -> None:
    assert inspect.isfunction(getattr(HttpToolsProtocol, name))


def test_the_seam_has_its_signatures() -> None:
    protocol = inspect.signature(HttpToolsProtocol.__init__)
    assert list(protocol.parameters) == ["self", "config", "server_state", "app_state", "_loop"]
    assert list(inspect.signature(HttpToolsProtocol._start_asgi_task).parameters) == ["self", "cycle", "app"]
    assert {"pause_reading", "resume_reading"} <= set(vars(FlowControl))
    assert STATUS_LINE[429] == b"HTTP/1.1 429 Too Many Requests\r\n"


def test_the_seam_has_its_attributes(gateway: Gateway, wire: Wire) -> None:
    wire.send(get("/health"))
    wire.read_answer()
    (connection,) = gateway.front.connections
    for name in ("parser", "transport", "flow", "loop", "app", "cycle", "pipeline", "headers", "url"):
        assert hasattr(connection, name), name
    assert connection.flow.read_paused is False
    assert connection.timeout_keep_alive_task is None  # our sweep keeps that time
    cycle = connection.cycle
    assert type(cycle) is RequestResponseCycle
    assert (cycle.response_complete, cycle.response_started, cycle.disconnected) == (True, True, False)
    # What uvicorn's protocol reads off its cycle, ours has too.
    for name in ("response_complete", "keep_alive", "disconnected", "message_event", "waiting_for_100_continue"):
        assert hasattr(cycle, name), name
        assert name in HotCycle.__slots__, name


def test_uvicorn_asks_its_pipeline_oldest_last(gateway: Gateway, wire: Wire) -> None:
    wire.send(post(prompt="wait") + post(prompt="b") + post(prompt="c"))
    held = gateway.held()
    (connection,) = gateway.front.connections
    first, second, third = connection.hot
    assert [cycle for cycle, _ in connection.pipeline] == [third, second]
    assert (first.may_start, second.may_start) == (True, False)
    gateway.release(held)
    assert [said(wire.read_answer()) for _ in range(3)] == ["onetwo", "echo b", "echo c"]


def test_results_and_unready_errors_are_of_the_engines_interface() -> None:
    assert Result("stop", 1, 2).finish == "stop"
    assert EngineUnavailable("x").retryable
