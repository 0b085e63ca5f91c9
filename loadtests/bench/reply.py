"""Reads one HTTP reply, after the clock has stopped: is it whole, is it right, and when did which text arrive?

Strict on purpose. A reply is in error when it is not whole (framing, status, no [DONE]) and wrong when it is whole but
not what the upstream sent.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import orjson

Reads = Sequence[tuple[float, bytes]]
"""What came, read by read, each with its time in seconds."""

_BLANK_LINE = re.compile(rb"\n\n|\r\n\r\n")


class Incomplete(ValueError):
    """The reply is not whole; the message says what is missing or odd."""


@dataclass(slots=True)
class Reply:
    """A whole reply. Times in seconds, on the clock of the reads."""

    text: str = ""
    finish: str = ""
    texts_at: list[float] = field(default_factory=list)
    """When each piece of text had arrived."""


def read_reply(reads: Reads, *, streams: bool) -> Reply:
    """Raises Incomplete."""
    raw = b"".join([data for _, data in reads])
    head_end = raw.find(b"\r\n\r\n")
    if head_end < 0:
        raise Incomplete("no headers" if raw else "no reply")
    head = raw[:head_end].lower()
    body_at = head_end + 4
    if head[9:12] != b"200":
        raise Incomplete(f"status {head[9:12].decode('latin-1')}: {raw[body_at : body_at + 200]!r}")
    if b"\r\ntransfer-encoding: chunked" in head:
        body, places = _unchunk(raw, body_at)
    else:
        length = content_length(head)
        body, places = raw[body_at:], [(0, body_at)]
        if length is None or len(body) != length:
            raise Incomplete(f"{len(body)} bytes of body, content-length says {length}")
    try:
        if not streams:
            return _read_whole(body, reads[-1][0])
        return _read_events(body, _Clock(reads, places))
    except (KeyError, IndexError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise Incomplete(f"not as OpenAI's: {type(error).__name__} {error} in {body[:200]!r}") from error


def content_length(head: bytes) -> int | None:
    """Out of a lower-case header block; None where it says none."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else None


class _Clock:
    """When the byte at an offset of the body arrived. `places`: where runs of the body begin, there and in the raw."""

    def __init__(self, reads: Reads, places: Sequence[tuple[int, int]]) -> None:
        self._times = [at for at, _ in reads]
        self._ends = list(accumulate(len(data) for _, data in reads))
        self._body = [body for body, _ in places]
        self._raw = [raw for _, raw in places]

    def at(self, end: int) -> float:
        """When all before `end` was there."""
        run = bisect_left(self._body, end) - 1
        return self._times[bisect_left(self._ends, self._raw[run] + end - self._body[run])]


def _unchunk(raw: bytes, at: int) -> tuple[bytes, list[tuple[int, int]]]:
    parts: list[bytes] = []
    places: list[tuple[int, int]] = []
    size = 0
    while True:
        line_end = raw.find(b"\r\n", at)
        if line_end < 0:
            raise Incomplete("cut off between chunks")
        length = int(raw[at:line_end].partition(b";")[0], 16)
        at = line_end + 2
        if raw[at + length : at + length + 2] != b"\r\n":
            raise Incomplete("cut off within a chunk")
        if length == 0:
            break
        places.append((size, at))
        parts.append(raw[at : at + length])
        size += length
        at += length + 2
    if at + 2 != len(raw):
        raise Incomplete(f"{len(raw) - at - 2} bytes after the last chunk")
    return b"".join(parts), places


def _read_whole(body: bytes, at: float) -> Reply:
    choice = orjson.loads(body)["choices"][0]
    return Reply(choice["message"]["content"], choice["finish_reason"], [at])


def _read_events(body: bytes, clock: _Clock) -> Reply:
    reply, pieces, done = Reply(), [], False
    for data, end in _events(body):
        if done:
            raise Incomplete("an event after [DONE]")
        if data == b"[DONE]":
            done = True
            continue
        event: dict[str, Any] = orjson.loads(data)
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                pieces.append(text)
                reply.texts_at.append(clock.at(end))
            reply.finish = choice.get("finish_reason") or reply.finish
    if not done:
        raise Incomplete("no [DONE]")
    reply.text = "".join(pieces)
    return reply


def _events(body: bytes) -> Iterator[tuple[bytes, int]]:
    # The data of each event and the offset at which the event ends. Comments, which keep connections open, are skipped.
    at = 0
    while at < len(body):
        end = _BLANK_LINE.search(body, at)
        if end is None:
            raise Incomplete(f"half an event at the end: {body[at : at + 100]!r}")
        event = body[at : end.start()]
        at = end.end()
        if event.startswith(b"data:"):
            yield event[5:].strip(), at
        elif event and not event.startswith(b":"):
            raise Incomplete(f"an odd event: {event[:100]!r}")
