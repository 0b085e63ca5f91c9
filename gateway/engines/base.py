"""What the request path asks of an engine, and what an engine tells it.

One job is one generation: one prompt, one choice. A listener hears any number of chunks and then exactly
one of `on_finish` and `on_error`; after `cancel` it hears nothing more. Callbacks, not tasks: the token
path makes no object and no task per token.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from gateway.core.answer import Finish, TokenLogprob
from gateway.core.errors import PenstockError
from gateway.core.request import Guide, Sampling
from gateway.routing.version import Version

# What a model can honour. `guide:*` are Guide kinds; the rest are names of sampling fields.
# Stop strings, n and (with a tokenizer) token counts are the gateway's own work, so they are not listed.
SAMPLING_FEATURES = (
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logprobs",
)
GUIDE_FEATURES = ("guide:json_object", "guide:json_schema", "guide:regex", "guide:grammar")


class Job(Struct, frozen=True, gc=False):
    """One generation. `id` is unique among all jobs; `timeout` is in seconds, None for no deadline."""

    id: str
    prompt: str
    sampling: Sampling
    guide: Guide | None
    stream: bool
    timeout: float | None = None
    metadata: tuple[tuple[bytes, bytes], ...] = ()


class Result(Struct, frozen=True, gc=False):
    """How a generation ended. Token counts are None where the contract has none."""

    finish: Finish
    prompt_tokens: int | None
    completion_tokens: int | None


class Listener(Protocol):
    """The ears of one job; called from the event loop, never from inside `Engine.call`."""

    def on_chunk(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        """A piece of text. It may carry several tokens, or none yet: one of the two may be empty."""

    def on_finish(self, result: Result) -> None: ...

    def on_error(self, error: PenstockError) -> None: ...


class Call(Protocol):
    """A job under way."""

    def cancel(self) -> None:
        """Stop the engine's work. May be called at any time and more than once."""

    def counts(self) -> tuple[int | None, int | None]:
        """Prompt and completion tokens so far; what usage reports when the gateway itself ended the answer."""


class Readiness(Struct, frozen=True):
    """Whether a version can be served now; `reason` says why not, in words for an operator."""

    ready: bool
    reason: str
    contract: str = ""
    features: frozenset[str] = frozenset()


class Upstream(Struct, frozen=True):
    """The connections to one replica: how many by state, calls in flight on them, events by name since the start."""

    replica: str
    connections: dict[str, int]
    in_flight: int
    events: dict[str, int]


class Engine(Protocol):
    """The adapter to a kind of server. `replica` is what records call the server: its host:port."""

    @property
    def replica(self) -> str: ...

    async def start(self, versions: list[Version]) -> None:
        """Begin to connect and to read the models' interfaces. Returns without waiting for the server."""

    async def watch(self, versions: list[Version]) -> None:
        """Exchange the versions, once started. Returns when each new one was looked at, whatever came of it.

        Those that leave can be called until the next exchange, so that the caller can take over without a gap.
        """

    def readiness(self, version: Version) -> Readiness: ...

    def call(self, version: Version, job: Job, listener: Listener) -> Call:
        """Start a job. Errors are told to the listener, except EngineUnavailable for a version that is not ready."""

    async def close(self) -> None: ...
