"""The canonical request: what every dialect is parsed into and everything below reads.

None means "the client did not say": the version's defaults then apply (routing/policy.py). Structs are
`gc=False`: they hold no cycles, and the collector need not walk one per request.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

GuideKind = Literal["json_object", "json_schema", "regex", "grammar"]


class Message(Struct, frozen=True, gc=False, omit_defaults=True):
    """One turn. `content` is plain text: parts are joined at the border, other media refused there."""

    role: str
    content: str
    name: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class Sampling(Struct, frozen=True, gc=False, omit_defaults=True):
    """How tokens are drawn. Names follow OpenAI's where one exists."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False


class Guide(Struct, frozen=True, gc=False):
    """A constraint on the text: `source` is a JSON schema, a regular expression or an EBNF grammar."""

    kind: GuideKind
    source: str = ""


class Request(Struct, frozen=True, gc=False):
    """One inference as asked. Either `messages` (chat) or `prompts` (completions, one answer set each)."""

    model: str  # as sent: an endpoint, or endpoint@version
    messages: tuple[Message, ...] = ()
    prompts: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    guide: Guide | None = None
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
