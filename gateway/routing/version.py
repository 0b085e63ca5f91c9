"""Endpoints and versions: what is public, and what stands behind it."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

Determinism = Literal["free", "seeded", "greedy"]
TextMode = Literal["auto", "delta", "cumulative"]
Content = Literal["full", "hashed", "none"]


class Price(Struct, frozen=True, gc=False):
    """Integer nano-USD per token; `name` is the price version that records carry."""

    name: str
    input: int
    output: int


class SamplingDefaults(Struct, frozen=True, gc=False):
    """What applies where the client said nothing; None leaves it to the engine."""

    max_tokens: int = 256
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()


class SamplingLimits(Struct, frozen=True, gc=False):
    """What a client may ask at most; beyond it the request is refused with 400."""

    max_tokens: int = 4096
    temperature: float = 2.0
    n: int = 8


class Version(Struct, frozen=True, gc=False):
    """An immutable unit behind an endpoint. `chat_template` is Jinja source, never a path.

    `model_version` is Triton's, "" for the server's choice. `tokenizer` is the path of a tokenizer.json,
    used to count tokens where the contract cannot; "" for none.
    """

    endpoint: str
    name: str
    model: str
    model_version: str = ""
    chat_template: str = ""
    template_vars: tuple[tuple[str, str], ...] = ()
    determinism: Determinism = "free"
    text_mode: TextMode = "auto"
    tokenizer: str = ""
    defaults: SamplingDefaults = SamplingDefaults()
    limits: SamplingLimits = SamplingLimits()
    price: Price | None = None

    @property
    def label(self) -> str:
        """`endpoint@version`, the way a version is always shown."""
        return f"{self.endpoint}@{self.name}"

    @property
    def fingerprint(self) -> str:
        """Names the version and a digest of all that defines it: equal fingerprints mean equal definitions."""
        return f"{self.label}:{hashlib.blake2b(msgspec.json.encode(self), digest_size=5).hexdigest()}"


class Endpoint(Struct, frozen=True):
    """The public, stable name that clients send as `model`.

    `sticky` is "user" (the request's user field), "header:NAME" (lower case), or "none". `content` says how
    messages and answers are kept in the journal, `content_in_traces` whether spans carry them. `disabled` are the
    versions that an operator has switched off: their weight is 0, and who pins one is told so.
    """

    name: str
    versions: dict[str, Version]
    split: dict[str, float]
    sticky: str = "user"
    salt: str = ""
    content: Content = "full"
    content_in_traces: bool = False
    disabled: tuple[str, ...] = ()
