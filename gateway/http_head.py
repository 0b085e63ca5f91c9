"""The head of a request on a hot route: what its headers say, and the memory of it.

A client's next request on a connection has the same head, byte for byte, but for the length of its body. So a head
that the parser has read once is known again by two comparisons, and what was found out about it (who calls, until
when) need not be found out again. A memory is its connection's own: it is never compared with another caller's bytes.
"""

from __future__ import annotations

import re

from gateway.core.errors import BadRequest
from gateway.dialects.base import Dialect
from gateway.keys import ANYONE, Key, Keyring, identify

MAX_DEADLINE_S = 86_400.0
_MILLISECONDS = re.compile(r"[0-9]{1,12}").fullmatch  # int() raises on thousands of digits
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


class RequestHead:
    """`headers` have lower-case names. `chunked` says whether the answer may be sent in chunks: not to HTTP/1.0."""

    __slots__ = ("_deadline", "_found", "_key", "_keyring", "_said", "chunked", "dialect", "headers", "keep_alive")

    def __init__(
        self, dialect: Dialect, headers: list[tuple[bytes, bytes]], *, keep_alive: bool, chunked: bool
    ) -> None:
        self.dialect = dialect
        self.headers = headers
        self.keep_alive = keep_alive
        self.chunked = chunked
        self._found: dict[bytes, bytes] | None = None
        self._said: dict[str, str | None] = {}
        self._deadline: float | None = -1.0  # not yet read
        self._key: Key | None = None
        self._keyring: Keyring | None = None

    def header(self, name: str) -> str | None:
        """The value of a header by its lower-case name; the last one where there are several."""
        said = self._said
        if name in said:
            return said[name]
        found = self._found
        if found is None:
            found = self._found = dict(self.headers)
        value = found.get(name.encode())
        answer = said[name] = None if value is None else value.decode("latin-1")
        return answer

    def caller(self, keyring: Keyring | None) -> Key:
        """Whose key it shows. Errors: Unauthenticated."""
        key = self._key
        if key is None or keyring is not self._keyring:
            key = ANYONE if keyring is None else identify(keyring, self.header("authorization"))
            self._key, self._keyring = key, keyring
        return key

    def deadline(self) -> float | None:
        """Seconds that the caller gives the request, None where it doesn't say. Errors: BadRequest."""
        deadline = self._deadline
        if deadline == -1.0:
            deadline = self._deadline = self._read_deadline()
        return deadline

    def _read_deadline(self) -> float | None:
        asked = self.header("x-penstock-timeout-ms")
        if asked is None:
            return None
        if not _MILLISECONDS(asked) or not 0 < int(asked) <= MAX_DEADLINE_S * 1000:
            raise BadRequest(
                f"The header x-penstock-timeout-ms must be milliseconds from 1 to {MAX_DEADLINE_S * 1000:.0f}; "
                f"found {asked[:40]!r}.",
                param="x-penstock-timeout-ms",
            )
        return int(asked) / 1000


class HeadMemory:
    """A head that the parser has accepted, as bytes around the digits of its content-length."""

    __slots__ = ("_after", "_before", "head")

    def __init__(self, head: RequestHead, before: bytes, after: bytes) -> None:
        self.head = head
        self._before = before
        self._after = after

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole request with this head; None for anything else."""
        before = self._before
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + 13)
        if end < 0 or not data.startswith(self._after, end):
            return None
        digits = data[start:end]
        body = end + len(self._after)
        if not digits.isdigit() or int(digits) != len(data) - body:
            return None
        return data[body:]


def remember(head: RequestHead, data: bytes) -> HeadMemory | None:
    """The memory of a request that the parser has just read from `data`, all of it and nothing else.

    None where its head has no one plain content-length, or asks for more than an answer.
    """
    end = data.find(_END) + 2
    found = _LENGTH.search(data, 0, end)
    names = [name for name, _ in head.headers]
    if found is None or names.count(b"content-length") != 1 or b"expect" in names or b"upgrade" in names:
        return None
    return HeadMemory(head, data[: found.start(1)], data[found.end(1) : end + 2])
