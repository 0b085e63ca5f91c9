"""What a dialect is: a parser of request bodies and an encoder of answers, both without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import PenstockError
from gateway.core.request import Request


class WholeChoice(Struct, gc=False):
    """One choice of an answer that is sent in one piece."""

    text: str
    finish: Finish
    logprobs: tuple[TokenLogprob, ...] = ()


class Encoder(Protocol):
    """Bytes of one answer: either `whole`, or `start`, any number of `chunk`, `finish` per choice, and `end`."""

    def start(self) -> bytes: ...

    def chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> bytes: ...

    def finish(self, choice: int, finish: Finish) -> bytes: ...

    def end(self, usage: Usage) -> bytes: ...

    def error(self, error: PenstockError) -> bytes:
        """The last bytes of a stream that breaks off."""

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> bytes: ...


class Dialect(Protocol):
    """A client-facing wire API."""

    name: str
    path: bytes

    def parse(self, body: bytes) -> Request:
        """Errors: BadRequest and its kinds, with the field, the value and the remedy."""

    def encoder(self, request: Request, head: Head) -> Encoder: ...

    def error(self, error: PenstockError) -> bytes:
        """The body of an error answer."""
