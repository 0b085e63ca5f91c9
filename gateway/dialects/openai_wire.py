"""Bytes that OpenAI's chat and completions answers share: errors, usage, server-sent events, the frame of an answer.

All four keys of an error are always there: clients read them without asking.
"""

from __future__ import annotations

from typing import Any, ClassVar

import orjson

from gateway.core.answer import Head, Usage
from gateway.core.errors import PenstockError
from gateway.core.request import Request

DONE = b"data: [DONE]\n\n"


def error_body(error: PenstockError) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": fields})


def usage_of(usage: Usage) -> dict[str, int] | None:
    """OpenAI's usage, or None where a count is unknown: clients take a number for a fact."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class AnswerEncoder:
    """The frame of one answer; a dialect adds what its choices look like.

    Events are cut from byte templates that `start` makes: a token costs one `orjson.dumps` and one join.
    """

    ID: ClassVar[str]
    """What ids begin with."""
    CHUNK: ClassVar[str]
    """The object of an event."""
    WHOLE: ClassVar[str]
    """The object of an answer in one piece."""
    CONTENT: ClassVar[bytes]
    """The key of what a choice says."""
    TEXT: ClassVar[tuple[bytes, bytes]]
    """What stands around a text there."""

    __slots__ = ("_choices", "_common", "_fields", "_heads", "_include_usage", "_no_usage", "_text_heads", "_text_tail")

    def __init__(self, request: Request, head: Head, choices: int) -> None:
        self._choices = choices
        self._include_usage = request.include_usage
        self._no_usage = b',"usage":null' if request.include_usage else b""
        self._fields = {
            "id": f"{self.ID}-{head.id}",
            "object": self.CHUNK,
            "created": head.created,
            "model": request.model,
            "system_fingerprint": head.fingerprint,
        }
        self._common = self._text_tail = b""
        self._heads: list[bytes] = []
        self._text_heads: list[bytes] = []

    def start(self) -> bytes:
        """The first bytes of a stream; the others follow it."""
        self._common = common = orjson.dumps(self._fields)[:-1]
        before, after = self.TEXT
        for choice in range(self._choices):
            head = b'data: %b,"choices":[{"index":%d,%b' % (common, choice, self.CONTENT)
            self._heads.append(head)
            self._text_heads.append(head + before)
        self._text_tail = after + self._tail(b"null", b"null")
        return b""

    def end(self, usage: Usage) -> bytes:
        """The last bytes of a stream that is complete."""
        if not self._include_usage:
            return DONE
        counts = orjson.dumps(usage_of(usage))
        return b'data: %b,"choices":[],"usage":%b}\n\n%b' % (self._common, counts, DONE)

    def error(self, error: PenstockError) -> bytes:
        """The last bytes of a stream that breaks off; no [DONE] follows them."""
        return b"data: " + error_body(error) + b"\n\n"

    def _tail(self, logprobs: bytes, finish: bytes) -> bytes:
        return b',"logprobs":%b,"finish_reason":%b}]%b}\n\n' % (logprobs, finish, self._no_usage)

    def _event(self, choice: int, content: bytes, logprobs: bytes, finish: bytes) -> bytes:
        return b"".join((self._heads[choice], content, self._tail(logprobs, finish)))

    def _whole(self, choices: list[dict[str, Any]], usage: Usage) -> bytes:
        return orjson.dumps({**self._fields, "object": self.WHOLE, "choices": choices, "usage": usage_of(usage)})
