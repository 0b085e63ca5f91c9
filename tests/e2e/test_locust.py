"""The load tests that users run: against a real gateway, against servers that answer wrongly, and with no server."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtests.users.grpc_reply import read_grpc_stream
from loadtests.users.reply import Seen, WrongReply, read_chat, read_chat_stream, refusal
from penstock.v1 import inference_pb2 as pb
from penstock.v1 import inference_pb2_grpc
from tests.e2e.running import ROOT, Running

LOCUST = ROOT / ".venv-load" / "bin" / "locust"
LIMIT_S = 90
KEY = "sk-of-nobody"
PROMPT = "tell_me_nothing of the whale"
STREAMS, UNARY, GRPC = ("chat stream", "POST"), ("chat unary", "POST"), ("grpc stream", "RPC")
REQUESTS = {STREAMS, UNARY, GRPC}
METRICS = {(name, metric) for name in ("chat stream", "grpc stream") for metric in ("TTFT", "TPOT", "gap")}


@contextlib.contextmanager
def locust(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Locust with the shipped locustfile, in a process of its own."""
    assert LOCUST.exists(), "no .venv-load: run `make load-env`"
    command = [str(LOCUST), "-f", str(ROOT / "loadtests" / "locustfile.py"), "--headless", "--only-summary", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "PENSTOCK_API_KEY"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**clean, **environment}, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: str) -> tuple[int, str, str]:
    """A whole run: exit code, stdout and stderr."""
    with locust(*arguments) as process:
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err


def rows(stats: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["name"], row["method"]): row for row in stats}


# ── a real gateway ───────────────────────────────────────────────────────────────────────────────────


def test_all_users_against_a_real_gateway(gateway: Running, tmp_path: Path) -> None:
    target = ("--host", f"http://{gateway.http}", "--grpc-host", str(gateway.facts["grpc"]))
    shape = ("--users", "6", "--spawn-rate", "6", "--run-time", "4s", "--max-tokens", "32")
    code, out, err = run(*target, *shape, "--json", "--csv", str(tmp_path / "run"))
    print(err)
    assert code == 0, err
    seen = rows(json.loads(out))
    assert set(seen) == REQUESTS | METRICS
    for key, row in seen.items():
        assert row["num_failures"] == 0, key
        assert row["num_requests"] > 0, key
    for name, kind in (STREAMS, GRPC):
        # One TTFT for each reply, with the tokens of it; more gaps than replies: the pieces came one by one.
        replies = seen[name, kind]["num_requests"]
        assert seen[name, "TTFT"]["num_requests"] == replies
        assert seen[name, "TTFT"]["total_content_length"] > 2 * replies
        assert seen[name, "gap"]["num_requests"] > replies

    with (tmp_path / "run_stats.csv").open() as file:
        table = {(row["Name"], row["Type"]): int(row["Request Count"]) for row in csv.DictReader(file)}
    # The metrics are rows, but no requests: Locust's own total counts replies. Its file lags by up to a second.
    assert set(table) <= REQUESTS | METRICS | {("Aggregated", "")}
    assert table["Aggregated", ""] == sum(table.get(key, 0) for key in REQUESTS)

    shown = set(
        re.findall(r"^(chat stream|chat unary|grpc stream) +(POST|RPC|TTFT|TPOT|gap) +\d+ +[\d.]+", err, re.MULTILINE)
    )
    assert shown == REQUESTS | METRICS
    assert re.search(r"^tokens/s: chat stream [\d.]+, grpc stream [\d.]+$", err, re.MULTILINE)


# ── servers that answer wrongly ──────────────────────────────────────────────────────────────────────


def event(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def delta(text: str | None = None, finish: str | None = None) -> bytes:
    return event(
        {"choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}]}
    )


USAGE = event({"choices": [], "usage": {"completion_tokens": 3}})
DONE = event(b"[DONE]")
RIGHT = [delta(""), delta("a "), delta("b"), delta(finish="stop"), USAGE, DONE]
ERROR = {"error": {"message": PROMPT, "type": "server_error", "code": "engine_error"}}


# The server closes each connection and says so: else a client may ask on it once more before it knows.
STREAM_HEAD = b"""HTTP/1.1 200 OK\r
connection: close\r
content-type: text/event-stream; charset=utf-8\r
transfer-encoding: chunked\r
\r
"""
HEAD_OF = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def chunked(*events: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return STREAM_HEAD + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in events) + end


def plain(body: bytes | object, status: bytes = b"200 OK", missing: int = 0) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HEAD_OF % (status, len(data) + missing) + data


def answer(text: str | None, finish: str | None = "stop") -> dict[str, object]:
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [message], "usage": {"completion_tokens": 2}}


# What goes over the wire, and how it must be counted; None is a right reply.
WRONG_STREAMS: list[tuple[bytes, str | None]] = [
    (chunked(*RIGHT), None),
    (chunked(*RIGHT[:3], end=b""), "cut off in the middle, or no HTTP"),
    (chunked(*RIGHT[:5]), "cut off before [DONE]"),
    (chunked(*RIGHT[:3], DONE), "no finish reason"),
    (chunked(RIGHT[0], *RIGHT[3:]), "empty text"),
    (
        chunked(*RIGHT[:3], delta(finish="content_filter"), DONE),
        "finish reason neither stop nor length: content_filter",
    ),
    (chunked(*RIGHT[:3], delta(finish=PROMPT), DONE), "finish reason neither stop nor length: unknown"),
    (chunked(*RIGHT[:3], event(ERROR), DONE), "error in the stream engine_error"),
    (chunked(*RIGHT[:3], event(b'{"choices": ' + PROMPT.encode()), DONE), "an event is not JSON"),
    (plain(answer("a")), "the content type is not text/event-stream"),
    (plain(ERROR, b"503 Service Unavailable"), "HTTP 503 engine_error"),
    (plain(PROMPT.encode(), b"429 Too Many Requests"), "HTTP 429"),
    (b"", "connection closed before the reply's end"),
]
WRONG_CHATS: list[tuple[bytes, str | None]] = [
    (plain(answer("a")), None),
    (plain(answer("a"), missing=5), "cut off in the middle, or no HTTP"),
    (plain(answer("")), "empty text"),
    (plain(answer("a", None)), "no finish reason"),
    (plain(PROMPT.encode()), "the body is not JSON"),
    (plain({"choices": [], PROMPT: 1}), "0 choices instead of 1"),
    (plain({"error": {"message": PROMPT, "code": PROMPT}}, b"400 Bad Request"), "HTTP 400"),
]

HEAD = pb.GenerateStreamResponse(started=pb.Head(endpoint="assistant"))
PIECES = [pb.GenerateStreamResponse(delta=pb.Delta(text=text)) for text in ("a ", "b")]
STOP, LENGTH = (pb.GenerateStreamResponse(finished=pb.Finished(finish=f)) for f in (pb.FINISH_STOP, pb.FINISH_LENGTH))
END = pb.GenerateStreamResponse(ended=pb.Ended(usage=pb.Usage(completion_tokens=3)))
UNFINISHED = pb.GenerateStreamResponse(finished=pb.Finished())
# A code ends the stream with it.
WRONG_CALLS: list[tuple[list[pb.GenerateStreamResponse | grpc.StatusCode], str | None]] = [
    ([HEAD, *PIECES, LENGTH, END], None),
    ([HEAD, *PIECES, STOP], "cut off before the end"),
    ([HEAD, STOP, END], "empty text"),
    ([HEAD, *PIECES, END], "no finish reason"),
    ([HEAD, *PIECES, UNFINISHED, END], "finish reason neither stop nor length: unknown"),
    ([*PIECES, STOP, END], "the head is missing, or not the first"),
    ([HEAD, PIECES[0], grpc.StatusCode.UNAVAILABLE], "gRPC UNAVAILABLE"),
]


class Round:
    """Hands out the cases of one kind in turn; `over` is set when the second round begins: the first is counted."""

    def __init__(self, cases: list[tuple[Any, str | None]]) -> None:
        self.cases = cases
        self.over = threading.Event()
        self.keys: set[str | None] = set()
        self._given = 0

    def next(self, key: str | None) -> Any:
        self.keys.add(key)
        if self._given == len(self.cases):
            self.over.set()
        self._given += 1
        return self.cases[(self._given - 1) % len(self.cases)][0]


@contextlib.contextmanager
def http_server(streams: Round, chats: Round) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(plain({"id": "assistant"}))
            self.close_connection = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert asked["messages"][0]["content"] == PROMPT
            given = (streams if asked.get("stream") else chats).next(self.headers["authorization"])
            self.wfile.write(given)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def grpc_server(calls: Round) -> Iterator[str]:
    class Servicer(inference_pb2_grpc.InferenceServicer):
        def GenerateStream(self, request: pb.GenerateRequest, context: Any) -> Iterator[pb.GenerateStreamResponse]:
            assert request.messages[0].content == PROMPT
            for one in calls.next(dict(context.invocation_metadata()).get("authorization")):
                if isinstance(one, grpc.StatusCode):
                    context.abort(one, PROMPT)
                yield one

    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        inference_pb2_grpc.add_InferenceServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def test_wrong_replies_are_failures_with_a_reason_and_never_the_prompt() -> None:
    streams, chats, calls = rounds = [Round(WRONG_STREAMS), Round(WRONG_CHATS), Round(WRONG_CALLS)]
    with http_server(streams, chats) as host, grpc_server(calls) as grpc_host:
        target = ("--host", host, "--grpc-host", grpc_host, "--prompt", PROMPT)
        with locust(*target, "--users", "3", "--spawn-rate", "3", "--json", PENSTOCK_API_KEY=KEY) as process:
            everything = all(one.over.wait(LIMIT_S * 2 / 3) for one in rounds)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=LIMIT_S / 3)
    print(err)
    assert everything
    assert process.returncode == 1

    report = err[err.index("Error report") :]
    assert set(re.findall(r"^\d+ +(?:POST|RPC) (.+?) *$", report, re.MULTILINE)) == {
        f"{name}: {reason}"
        for (name, _), cases in zip((STREAMS, UNARY, GRPC), rounds, strict=True)
        for _, reason in cases.cases
        if reason
    }
    seen = rows(json.loads(out))
    for key in (STREAMS, GRPC):
        right = seen[key]["num_requests"] - seen[key]["num_failures"]
        assert right > 0
        assert seen[key[0], "TTFT"]["num_requests"] == right  # no time of a wrong reply is a metric
    assert all(one.keys == {f"Bearer {KEY}"} for one in rounds)
    for secret in (PROMPT, "whale", KEY):
        assert secret not in out + err


def test_without_a_gateway_it_says_so() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there, and nobody else can
        taken.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = run("--host", host, "--run-time", "1s")
    assert code == 2
    assert f"loadtest: no gateway at {host} (connection refused): start one with `make serve`" in err


# ── what a right reply is ────────────────────────────────────────────────────────────────────────────


def ticks() -> Iterator[float]:
    yield from (float(second) for second in range(1000))


def read(*events: bytes) -> Seen:
    lines = [line for one in events for line in one.splitlines(keepends=True)]
    clock = ticks()
    return read_chat_stream(lines, lambda: next(clock))


def test_the_times_of_a_stream() -> None:
    # Two lines an event and a tick each: texts at 2, 4 and 8.
    seen = read(delta(""), delta("a"), delta("b"), b": a comment\n\n", delta("c"), delta(finish="stop"), USAGE, DONE)
    assert seen.texts == [2.0, 4.0, 8.0]
    assert seen.gaps == [2.0, 4.0]
    assert seen.tokens == 3
    assert seen.per_token == 3.0  # (8 - 2) / (3 - 1)
    assert seen.finish == "stop"


def test_tpot_needs_two_pieces_and_a_count() -> None:
    assert read(delta("a"), delta(finish="length"), USAGE, DONE).per_token is None
    assert read(delta("a"), delta("b"), delta(finish="length"), DONE).per_token is None


def test_lines_may_end_as_they_like() -> None:
    right = b"event: message\n" + b"".join(RIGHT)
    assert read(right.replace(b"\n", b"\r\n")).tokens == 3


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([*RIGHT[:4], delta("late"), DONE], "text after the finish"),
        ([*RIGHT[:4], delta(finish="stop"), DONE], "two finishes"),
        ([*RIGHT, delta("late")], "an event after [DONE]"),
        ([b"<html>\n", *RIGHT], "a line that is no server-sent event"),
        ([event([1]), DONE], "an event is no JSON object"),
        ([event({"object": "chunk"}), DONE], "no list of choices"),
        ([event({"choices": [{"index": 1, "delta": {}}]}), DONE], "a choice that was not asked for"),
        ([event({"choices": [{"index": 0, "delta": {"content": 1}}]}), DONE], "content that is no text"),
        ([], "cut off before [DONE]"),
    ],
)
def test_streams_that_are_wrong(events: list[bytes], reason: str) -> None:
    with pytest.raises(WrongReply) as wrong:
        read(*events)
    assert str(wrong.value) == reason


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("rate_limit_exceeded", " rate_limit_exceeded"),
        ("overloaded", " overloaded"),
        ("word", ""),
        ("a b", ""),
        (7, ""),
    ],
)
def test_a_refusal_shows_codes_and_no_other_words(code: object, shown: str) -> None:
    body = json.dumps({"error": {"code": code, "message": PROMPT}}).encode()
    assert str(refusal(429, body)) == f"HTTP 429{shown}"


def test_a_chat_in_one_piece() -> None:
    seen = read_chat(json.dumps(answer("a", "length")).encode(), 5.0)
    assert (seen.texts, seen.finish, seen.tokens, seen.per_token) == ([5.0], "length", 2, None)


def grpc_read(events: Iterable[Any]) -> tuple[Seen, int]:
    clock = ticks()
    return read_grpc_stream(events, lambda: next(clock))


def test_the_times_of_a_grpc_stream() -> None:
    events = [HEAD, *PIECES, LENGTH, END]
    seen, size = grpc_read(events)
    assert (seen.texts, seen.finish, seen.tokens, seen.per_token) == ([1.0, 2.0], "length", 3, 0.5)
    assert size == sum(one.ByteSize() for one in events)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([HEAD, HEAD], "the head is missing, or not the first"),
        ([HEAD, *PIECES, STOP, END, END], "an event after the end"),
        ([HEAD, pb.GenerateStreamResponse(delta=pb.Delta(choice=1, text="a"))], "a choice that was not asked for"),
        ([HEAD, *PIECES, STOP, PIECES[0], END], "text after the finish"),
        ([], "cut off before the end"),
    ],
)
def test_grpc_streams_that_are_wrong(events: list[pb.GenerateStreamResponse], reason: str) -> None:
    with pytest.raises(WrongReply) as wrong:
        grpc_read(events)
    assert str(wrong.value) == reason
