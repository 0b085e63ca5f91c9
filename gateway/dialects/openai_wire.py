"""Bytes that OpenAI's chat and completions answers share: errors, usage, server-sent events.

All four keys of an error are always there: clients read them without asking.
"""

from __future__ import annotations

import orjson

from gateway.core.answer import Usage
from gateway.core.errors import PenstockError

DONE = b"data: [DONE]\n\n"


def error_body(error: PenstockError) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": fields})


def error_event(error: PenstockError) -> bytes:
    """A server-sent event that ends a stream which broke off; no [DONE] follows it."""
    return b"data: " + error_body(error) + b"\n\n"


def usage_of(usage: Usage) -> dict[str, int] | None:
    """OpenAI's usage, or None where a count is unknown: clients take a number for a fact."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
