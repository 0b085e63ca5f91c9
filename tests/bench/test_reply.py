"""A reply is read strictly, however it was cut on its way, and every piece of text has its time."""

from __future__ import annotations

import json

import pytest

from loadtests.bench.reply import Incomplete, Reads, read_reply


def event(text: str | None = None, finish: str | None = None) -> str:
    delta = {} if text is None else {"content": text}
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}) + "\n\n"


EVENTS = [event(""), event("one"), event(' "two'), event("\né"), event(finish="stop"), "data: [DONE]\n\n"]


def chunked(*parts: str) -> bytes:
    out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for part in parts:
        data = part.encode()
        out += b"%x\r\n%s\r\n" % (len(data), data)
    return out + b"0\r\n\r\n"


def whole(content: str = "hello", *, length: int | None = None, status: str = "200 OK") -> bytes:
    message = {"role": "assistant", "content": content}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    said = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), said, body)


def cut(raw: bytes, size: int) -> Reads:
    """Reads of `size` bytes at 0 s, 1 s, 2 s and so on."""
    return [(float(at // size), raw[at : at + size]) for at in range(0, len(raw), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 100_000])
def test_a_stream_is_the_same_however_it_is_cut(size: int) -> None:
    reply = read_reply(cut(chunked(*EVENTS), size), streams=True)
    assert (reply.text, reply.finish) == ('one "two\né', "stop")
    assert len(reply.texts_at) == 3


@pytest.mark.parametrize(
    "parts",
    [
        ["".join(EVENTS)],
        ["".join(EVENTS)[:100], "".join(EVENTS)[100:]],
        [part.replace("\n", "\r\n") for part in EVENTS],
        [": keep-alive\n\n", *EVENTS],
    ],
    ids=["one chunk", "cut in an event", "CRLF", "with a comment"],
)
def test_streams_as_gateways_send_them(parts: list[str]) -> None:
    assert read_reply([(0.0, chunked(*parts))], streams=True).text == 'one "two\né'


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_text_has_arrived_with_the_end_of_its_event(newline: str) -> None:
    parts = [part.replace("\n", newline) for part in EVENTS]
    raw = chunked(*parts)
    end_of_one = raw.index(b'"one"') + parts[1].encode().index(newline.encode() * 2) - parts[1].encode().index(b'"one"')
    end_of_one += 2 * len(newline)
    reads = [(1.0, raw[: end_of_one - 1]), (2.0, raw[end_of_one - 1 : end_of_one]), (5.0, raw[end_of_one:])]
    assert read_reply(reads, streams=True).texts_at == [2.0, 5.0, 5.0]


def test_a_whole_answer_has_arrived_with_its_last_byte() -> None:
    raw = whole()
    reply = read_reply([(1.0, raw[:-1]), (2.5, raw[-1:])], streams=False)
    assert (reply.text, reply.finish, reply.texts_at) == ("hello", "stop", [2.5])


@pytest.mark.parametrize(
    ("raw", "streams", "words"),
    [
        (b"", False, "no reply"),
        (b"HTTP/1.1 200 OK\r\n", False, "no headers"),
        (whole(status="502 Bad Gateway"), False, "status 502"),
        (whole(length=10_000), False, "content-length says 10000"),
        (whole() + b"x", False, "content-length"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", False, "says None"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", False, "KeyError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{x", False, "JSONDecodeError"),
        (chunked(*EVENTS[:-1]), True, r"no \[DONE\]"),
        (chunked(*EVENTS, event("more")), True, r"after \[DONE\]"),
        (chunked(*EVENTS)[:-5], True, "cut off between chunks"),
        (chunked(*EVENTS)[:-12], True, "cut off within a chunk"),
        (chunked(*EVENTS) + b"x", True, "1 bytes after"),
        (chunked(*EVENTS[:2], "data: {"), True, "half an event"),
        (chunked("event: error\n\n"), True, "an odd event"),
        (chunked('data: {"error": {"message": "no"}}\n\n'), True, "KeyError 'choices'"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_in_words(raw: bytes, streams: bool, words: str) -> None:
    with pytest.raises(Incomplete, match=words):
        read_reply([(0.0, raw)] if raw else [], streams=streams)
