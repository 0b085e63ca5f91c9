"""What all requests of a worker share, and what a request knows of its caller and of its answer's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import Cancelled, Overloaded, PenstockError
from gateway.engines.base import Engine
from gateway.journal.record import Failure, Outcome, Record, Trace
from gateway.keys import Keyring
from gateway.routing.version import Endpoint
from gateway.snapshot import Snapshot
from gateway.stats import Stats
from gateway.trace_context import Tracing

if TYPE_CHECKING:
    from gateway.inference import Inference


class Origin(Struct, frozen=True):
    """What a face knows of a request beside its body. `header` looks one up by its lower-case name.

    Not `gc=False`: `header` leads back to the face's request, and a cycle through what the collector cannot see
    is never freed.
    `request_id` is what the caller calls it; `deadline` is in seconds from now, None for the gateway's own.
    `api_key` is the name of the caller's key, `trace` the span that this request is, None where nobody traces.
    `allowed` tells of an endpoint's name whether the key may use it, None where it may use all.
    """

    request_id: str
    header: Callable[[str], str | None]
    deadline: float | None = None
    face: Literal["http", "grpc"] = "http"
    dialect: str = ""
    api_key: str = ""
    trace: Trace | None = None
    allowed: Callable[[str], bool] | None = None


class Sink(Protocol):
    """Where an answer goes. After `on_end` or `on_error` it hears nothing more."""

    def on_start(self, head: Head) -> None: ...

    def on_chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None: ...

    def on_finish(self, choice: int, finish: Finish) -> None: ...

    def on_end(self, usage: Usage) -> None: ...

    def on_error(self, error: PenstockError) -> None: ...


class Service:
    """What all requests of a worker share: the snapshot, the engine, the limits, the counters."""

    def __init__(
        self,
        snapshot: Snapshot,
        engine: Engine,
        *,
        loop: asyncio.AbstractEventLoop,
        next_id: Callable[[], str],
        concurrent_requests: int,
        request_timeout: float,
        stats: Stats,
        journal: Callable[[Record], None],
        hash_key: Callable[[str], str],
        worker: int = 0,
        keyring: Keyring | None = None,
        tracing: Tracing | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`journal` takes each record once and never raises; `hash_key` hides a sticky key; `worker` is our number.

        `keyring` is None where anyone may call; the faces ask it of each call, so it may be swapped like the snapshot.
        `clock` gives monotonic nanoseconds.
        """
        self.clock = clock
        self.journal = journal
        self.hash_key = hash_key
        self.worker = worker
        self.keyring = keyring
        self.snapshot = snapshot
        self.engine = engine
        self.loop = loop
        self.next_id = next_id
        self.concurrent_requests = concurrent_requests
        self.request_timeout = request_timeout
        self.stats = stats
        self.tracing = tracing or Tracing()
        self.open: set[Inference] = set()  # between start and settlement; our own shutdown ends them

    def ready(self, endpoint: Endpoint) -> bool:
        """Whether every version with a share of the traffic can answer."""
        return all(
            self.engine.readiness(version).ready
            for name, version in endpoint.versions.items()
            if endpoint.split.get(name, 0) > 0
        )

    def refused(self, error: PenstockError, origin: Origin) -> None:
        """A face has refused what never became a request; it is counted and recorded like any other."""
        record = Record(
            id=self.next_id(),
            at=time.time_ns(),
            outcome=outcome_of(error),
            worker=self.worker,
            face=origin.face,
            dialect=origin.dialect,
            request_id=origin.request_id,
            api_key=origin.api_key,
            failure=failure_of(error),
            trace=origin.trace,
        )
        self.settle(record)

    def settle(self, record: Record) -> None:
        """What happens with each record, once."""
        self.stats.settle(record)
        self.journal(record)


def outcome_of(error: PenstockError) -> Outcome:
    """How the journal calls a request that ended with this error."""
    if isinstance(error, Overloaded):
        return "shed"
    if isinstance(error, Cancelled):
        return "cancelled"
    return "refused" if error.status < 500 else "failed"


def failure_of(error: PenstockError) -> Failure:
    """The error as the journal keeps it."""
    return Failure(error.code or type(error).__name__, error.message, error.status, error.param)
