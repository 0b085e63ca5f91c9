"""Request bodies for the tests of dialects: a good one, and how it is changed."""

from typing import Any

import orjson

from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions

CHAT, COMPLETIONS = OpenAIChat(), OpenAICompletions()
DROP = object()
HI = [{"role": "user", "content": "hi"}]


def chat(**changes: Any) -> bytes:
    """A chat body; DROP takes a field out."""
    return _with({"model": "assistant", "messages": HI}, changes)


def completion(**changes: Any) -> bytes:
    """A completions body; DROP takes a field out."""
    return _with({"model": "assistant", "prompt": "hi"}, changes)


def _with(base: dict[str, Any], changes: dict[str, Any]) -> bytes:
    merged = {key: value for key, value in (base | changes).items() if value is not DROP}
    return orjson.dumps(merged)


def spliced(body: bytes, more: bytes) -> bytes:
    """The body with `more` (raw JSON members) put in before its last brace."""
    return body[:-1] + b"," + more + b"}"
