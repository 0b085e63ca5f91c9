"""Bytes that OpenAI's chat and completions answers share: errors, usage, server-sent events, the frame of an answer.

All four keys of an error are always there: clients read them without asking.
"""

from __future__ import annotations

from typing import Any

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

    Events are cut from byte templates made once per answer: a token costs one `orjson.dumps` and one join.
    """

    __slots__ = ("_common", "_include_usage", "_no_usage", "_prefix")

    def __init__(self, request: Request, head: Head, *, prefix: str, kind: str, choices: int, opening: bytes) -> None:
        """`prefix` begins the id, `kind` is the object of a chunk, `opening` what follows a choice's index."""
        self._include_usage = request.include_usage
        self._no_usage = b',"usage":null' if request.include_usage else b""
        self._common = orjson.dumps(
            {
                "id": f"{prefix}-{head.id}",
                "object": kind,
                "created": head.created,
                "model": request.model,
                "system_fingerprint": head.fingerprint,
            }
        )[:-1]
        self._prefix = [b'data: %b,"choices":[{"index":%d,%b' % (self._common, i, opening) for i in range(choices)]

    def end(self, usage: Usage) -> bytes:
        """The last bytes of a stream that is complete."""
        if not self._include_usage:
            return DONE
        counts = orjson.dumps(usage_of(usage))
        return b'data: %b,"choices":[],"usage":%b}\n\n%b' % (self._common, counts, DONE)

    def error(self, error: PenstockError) -> bytes:
        """The last bytes of a stream that breaks off; no [DONE] follows them."""
        return b"data: " + error_body(error) + b"\n\n"

    def _event(self, choice: int, content: bytes, logprobs: bytes, finish: bytes) -> bytes:
        tail = b',"logprobs":%b,"finish_reason":%b}]%b}\n\n' % (logprobs, finish, self._no_usage)
        return b"".join((self._prefix[choice], content, tail))

    def _whole(self, kind: str, choices: list[dict[str, Any]], usage: Usage) -> bytes:
        head = orjson.loads(self._common + b"}")
        return orjson.dumps(head | {"object": kind, "choices": choices, "usage": usage_of(usage)})
