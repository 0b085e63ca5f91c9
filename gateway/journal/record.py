"""One inference as the journal keeps it: written once, when it has ended, however it ended.

The fields are the lake's columns later, so a name that has been written is never reused for something else.
What is empty or unknown is left out of the JSON. Reading is lenient: a field that a later version adds is skipped.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.core.answer import Usage
from gateway.core.request import Message, Sampling
from gateway.routing.version import Content, Price

Outcome = Literal["finished", "failed", "refused", "cancelled", "abandoned", "shed"]
"""finished: answered in full. failed: by the engine, a deadline or a defect. refused: the request was at fault, or its
key. cancelled: the caller, or our own shutdown, called it off. abandoned: the client's connection went away. shed: we
were at our limits."""
Reason = Literal["", "weight", "sticky", "pin"]


class Choice(Struct, frozen=True, gc=False, omit_defaults=True):
    """One answer. `finish` is "" where there was no end; `text` is what was sent, its sha256 with `hashed` content."""

    text: str = ""
    finish: str = ""


class Failure(Struct, frozen=True, gc=False, omit_defaults=True):
    """Why it didn't finish: as the caller was told. `status` is HTTP's, of the one error tree."""

    code: str
    message: str
    status: int
    param: str | None = None


class Trace(Struct, frozen=True, gc=False, omit_defaults=True):
    """W3C ids in hex: `span` is our own span, `parent` the caller's, "" where the trace began here.

    `sampled` is the caller's flag, None where there was no caller that traces. `state` is its tracestate.
    """

    trace: str
    span: str
    parent: str = ""
    sampled: bool | None = None
    state: str = ""


class Record(Struct, frozen=True, gc=False, omit_defaults=True):
    """One inference. `at` is when its last byte was received, Unix nanoseconds; the other times are nanoseconds since
    then, None where it never came to that."""

    id: str
    at: int
    outcome: Outcome
    worker: int = 0
    face: Literal["http", "grpc"] = "http"
    dialect: str = ""
    request_id: str = ""
    model: str = ""
    """As asked: an endpoint, or endpoint@version."""
    endpoint: str = ""
    version: str = ""
    """"" when it ended before one was chosen."""
    reason: Reason = ""
    fingerprint: str = ""
    key_hash: str = ""
    """Of the sticky key; see `key_hash`."""
    api_key: str = ""
    """The name in [[keys]], never the key."""
    content: Content = "full"
    messages: tuple[Message, ...] = ()
    prompts: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    n: int = 1
    stream: bool = False
    sampling: Sampling | None = None
    """As used, after the version's policy; the seed is in it."""
    determinism: str = ""
    guide: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    sent: int | None = None
    first_text: int | None = None
    last_text: int | None = None
    ended: int = 0
    chunks: int = 0
    """Messages with text. Between them lie chunks - 1 gaps, (last_text - first_text) / (chunks - 1) in the mean."""
    worst_gap: int | None = None
    cost: int | None = None
    """Nano-USD; None when unpriced or uncounted."""
    price: str = ""
    """The name of the price that `cost` was reckoned with."""
    replica: str = ""
    """host:port of the Triton."""
    failure: Failure | None = None
    trace: Trace | None = None

    @property
    def overhead(self) -> int | None:
        """Nanoseconds in us before the engine was asked; None when it never was."""
        return self.sent

    @property
    def per_token(self) -> float | None:
        """TPOT in nanoseconds: from the first text to the last, for each token after the first; None without a gap."""
        tokens = self.completion_tokens or 0
        if self.first_text is None or self.last_text is None or self.chunks < 2 or tokens < 2:
            return None
        return (self.last_text - self.first_text) / (tokens - 1)


def cost_of(usage: Usage, price: Price | None) -> int | None:
    """Integer nano-USD; None for what has no price or was not counted: an unknown cost is not 0."""
    if price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens * price.input + usage.completion_tokens * price.output


def encode_record(record: Record) -> bytes:
    """Compact JSON. A lone surrogate, which a client's JSON may carry, is written as U+FFFD: UTF-8 has none.

    Errors: RecursionError for tool calls nested beyond reason.
    """
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        return msgspec.json.encode(_without_surrogates(msgspec.to_builtins(record)))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


_DECODER = msgspec.json.Decoder(Record)


def decode_record(data: bytes) -> Record:
    """Errors: msgspec.DecodeError (of which ValidationError is one)."""
    return _DECODER.decode(data)
