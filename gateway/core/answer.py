"""The canonical answer: chunks of text, then one finish per choice, then one usage."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Finish = Literal["stop", "length"]


class TokenLogprob(Struct, frozen=True, gc=False):
    """`token` is the text of one delivered chunk, `logprob` the sum over its tokens, in nats.

    Engines behind Triton return log-probabilities without token texts. One chunk is one token wherever
    the engine sends token by token, which our contracts ask for when log-probabilities are wanted.
    """

    token: str
    logprob: float


class Usage(Struct, frozen=True, gc=False):
    """Token counts over all choices; None where neither the engine nor a tokenizer could count."""

    prompt_tokens: int | None
    completion_tokens: int | None


class Head(Struct, frozen=True, gc=False):
    """What is known of an answer before its first chunk. `created` is in Unix seconds."""

    id: str
    created: int
    endpoint: str
    version: str
    fingerprint: str
    seed: int | None
    determinism: str
