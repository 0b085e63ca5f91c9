"""The load client's way over HTTP/1.1: requests made by hand, replies kept as they came.

While the clock runs a read costs a time, an append and a look at the end of the reply; all reading is done later.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from loadtests.bench.asking import Asked, Link, Run, clock
from loadtests.bench.question import Question
from loadtests.bench.reply import Reads, Reply, content_length, read_reply

_LAST_CHUNK = b"\r\n0\r\n\r\n"
_SERIAL = 7_777_777
STALE_S = 1.0
"""A connection that was at rest for so long may be closed as it asks: a server's right, and no reply lost."""


class HttpTarget:
    """`url` ends in /v1; `headers` go with each request."""

    def __init__(self, url: str, model: str, headers: Mapping[str, str], question: Question) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._question = question
        body = json.dumps(
            {
                "model": model,
                "messages": [{"role": "user", "content": question.prompt(_SERIAL)}],
                "max_tokens": question.tokens * 2,
                "temperature": 0.7,
                "stream": question.streams,
                "user": f"u{_SERIAL}",
            }
        ).encode()
        lines = {
            "Host": f"{self._host}:{self._port}",
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Content-Length": str(len(body)),
            **headers,
        }
        head = f"POST {parts.path}/chat/completions HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        self._parts = (head.encode() + b"\r\n" + body).split(str(_SERIAL).encode())

    async def connect(self, run: Run) -> Link:
        _, link = await asyncio.get_running_loop().create_connection(
            lambda: HttpLink(run, self), self._host, self._port
        )
        return link

    def request(self, serial: int) -> bytes:
        """All bytes of it."""
        return (b"%07d" % serial).join(self._parts)

    def read(self, reads: Reads) -> Reply:
        return read_reply(reads, streams=self._question.streams)

    async def close(self) -> None:
        return None


class HttpLink(asyncio.Protocol):
    """One connection, kept alive, one request at a time."""

    def __init__(self, run: Run, target: HttpTarget) -> None:
        self._run = run
        self._target = target
        self._transport: asyncio.Transport
        self._asked: Asked | None = None
        self._size = 0
        self._need = -1  # bytes of the whole reply; 0: chunked; -1: not known yet
        self._tail = b""
        self._closes = False
        self._rested_since = clock()
        self._stale = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's isn't one by its class

    def ask(self, serial: int) -> None:
        request = self._target.request(serial)
        self._size, self._need, self._tail = 0, -1, b""
        self._stale = clock() - self._rested_since > STALE_S
        self._asked = self._run.begin(self, serial)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        asked = self._asked
        if asked is None:
            self._run.ended(self, f"bytes that nobody asked for: {data[:100]!r}")
            self._transport.abort()
            return
        asked.reads.append((clock(), data))
        self._size += len(data)
        if self._need < 0:
            self._read_head(asked)
        if self._need == 0:
            self._tail = self._tail[-len(_LAST_CHUNK) :] + data if len(data) < len(_LAST_CHUNK) else data
            if self._tail.endswith(_LAST_CHUNK):
                self._end()
        elif 0 < self._need <= self._size:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and self._stale and not asked.reads:
            self._run.missed(self)
            return
        unanswered = asked is not None
        error = f"the connection was lost before the end ({exc or 'closed'})" if unanswered else ""
        self._run.ended(self, error, lost=True)

    def close(self) -> None:
        self._asked = None
        self._transport.abort()

    def _read_head(self, asked: Asked) -> None:
        head, found, _ = b"".join([data for _, data in asked.reads]).partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower()
        self._closes = b"\r\nconnection: close" in lines
        length = content_length(lines)
        self._need = 0 if length is None else len(head) + 4 + length

    def _end(self) -> None:
        self._asked = None
        self._rested_since = clock()
        if self._closes:
            self._transport.close()  # `connection_lost` makes another
        else:
            self._run.ended(self)
