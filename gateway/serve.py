"""THE request path: admit → route → prepare → call → stream → settle.

Whatever the face, a request is one `Inference`. Its methods stand in the order in which they happen, and
none of them waits: the face calls `start`, the engine's chunks drive the rest by callbacks, without a
task per request. Two rules:

- the sink hears `on_start` at the first sign of life from the engine, not before, so that a failure up
  to then is still a plain HTTP status; after it, an error ends the stream;
- `settle` runs exactly once, however the request ended: finished, failed, expired or abandoned.

A defect of ours on this path is caught where it would leave it: at `start` and at the engine's callbacks. It
fails its own request, and neither the engine's connection nor its other requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.answer import Chunk, Finish, Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest, Cancelled, EngineTimeout, Internal, Overloaded, PenstockError
from gateway.core.request import Request, Sampling
from gateway.core.stop import StopScanner
from gateway.engines.base import Call, Engine, Job, Result
from gateway.journal.record import Choice, Failure, Outcome, Record, Trace, cost_of
from gateway.keys import Keyring, visible
from gateway.routing.policy import apply_policy
from gateway.routing.resolve import Routed, find_endpoint, one_pin, route
from gateway.snapshot import Snapshot
from gateway.stats import Stats
from gateway.trace_context import Tracing

log = logging.getLogger("penstock.serve")


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

    def inference(self, request: Request, origin: Origin, sink: Sink) -> Inference:
        """A request, to be started by `start`: the sink may hear all of it before that returns."""
        return Inference(self, request, origin, sink)

    def refused(self, error: PenstockError, origin: Origin) -> None:
        """A face has refused what never became a request; it is counted and recorded like any other."""
        record = Record(
            id=self.next_id(),
            at=time.time_ns(),
            outcome=_outcome(error),
            worker=self.worker,
            face=origin.face,
            dialect=origin.dialect,
            request_id=origin.request_id,
            api_key=origin.api_key,
            failure=_failure(error),
            trace=origin.trace,
        )
        self.settle(record)

    def settle(self, record: Record) -> None:
        """What happens with each record, once."""
        self.stats.settle(record)
        self.journal(record)


class Inference:
    """One request, from admission to settlement."""

    __slots__ = (
        "_admitted",
        "_at",
        "_choices",
        "_chunks",
        "_deadline",
        "_first_text",
        "_head",
        "_id",
        "_key",
        "_last_text",
        "_open",
        "_origin",
        "_received",
        "_request",
        "_sampling",
        "_sent",
        "_service",
        "_settled",
        "_sink",
        "_snapshot",
        "_started",
        "_timer",
        "_worst_gap",
        "routed",
    )

    def __init__(self, service: Service, request: Request, origin: Origin, sink: Sink) -> None:
        self._service = service
        self._snapshot = service.snapshot
        self._request = request
        self._origin = origin
        self._sink = sink
        self._id = service.next_id()
        self._at = time.time_ns()
        self._received = service.clock()
        # Monotonic nanoseconds; 0 until it has happened.
        self._sent = self._first_text = self._last_text = self._worst_gap = 0
        self._chunks = 0
        self._key: str | None = None
        self._admitted = False
        self._deadline = service.request_timeout if origin.deadline is None else origin.deadline
        self._timer: asyncio.TimerHandle | None = None
        self._choices: list[_Choice] = []
        self._open = 0
        self._started = self._settled = False
        self._sampling = request.sampling
        self._head: Head | None = None
        self.routed: Routed | None = None

    def __repr__(self) -> str:
        label = self.routed.version.label if self.routed else self._request.model
        return f"<Inference {self._id} {label} open={self._open} settled={self._settled}>"

    def start(self) -> None:
        """The phases up to the engine. A refusal at any of them goes to the sink. Never raises."""
        try:
            self._admit()
            routed = self._route()
            prompts = self._prepare(routed)
            self._call(routed, prompts)
        except PenstockError as error:
            self._fail(error)
        except Exception as cause:
            self.defect(cause)

    def _admit(self) -> None:
        service = self._service
        service.stats.in_flight += 1
        service.open.add(self)
        self._admitted = True
        if service.stats.in_flight > service.concurrent_requests:
            raise Overloaded(
                f"The gateway is at its limit of {service.concurrent_requests} concurrent requests; try again.",
                retry_after=1.0,
            )
        self._timer = service.loop.call_later(self._deadline, self._expire)

    def _route(self) -> Routed:
        request, header = self._request, self._origin.header
        endpoint, pin = find_endpoint(visible(self._snapshot.endpoints, self._origin.allowed), request.model)
        pin = one_pin(endpoint.name, pin, header("x-penstock-version"))
        key: str | None = None
        if endpoint.sticky == "user":
            key = request.user
        elif endpoint.sticky.startswith("header:"):
            key = header(endpoint.sticky[7:])
        self._key = key
        self.routed = route(endpoint, pin, key, self._id)
        self._service.stats.enter(self.routed.version.endpoint, self.routed.version.name)
        return self.routed

    def _prepare(self, routed: Routed) -> tuple[str, ...]:
        version, request = routed.version, self._request
        prepared = self._snapshot.prepared[version.label]
        self._sampling = apply_policy(request, version, self._id)
        self._head = Head(
            id=self._id,
            created=int(time.time()),
            endpoint=version.endpoint,
            version=version.name,
            fingerprint=prepared.fingerprint,
            seed=self._sampling.seed,
            determinism=version.determinism,
        )
        if request.prompts:
            return request.prompts
        if prepared.template is None:
            raise BadRequest(
                f"The model '{version.label}' has no chat template, so it takes prompts only; use /v1/completions.",
                param="messages",
            )
        return (prepared.template.render(request.messages, datetime.now(UTC)),)

    def _call(self, routed: Routed, prompts: tuple[str, ...]) -> None:
        request, sampling = self._request, self._sampling
        metadata = self._service.tracing.metadata(self._origin.trace)
        self._sent = self._service.clock()
        for prompt in prompts:
            for turn in range(request.n):
                self._choices.append(_Choice(self, len(self._choices), turn == 0, sampling.stop))
                self._open += 1
                job = Job(
                    id=f"{self._id}-{len(self._choices) - 1}",
                    prompt=prompt,
                    sampling=_sampling_of_turn(sampling, turn),
                    guide=request.guide,
                    stream=request.stream,
                    timeout=self._deadline,
                    metadata=metadata,
                )
                choice = self._choices[-1]
                choice.call = self._service.engine.call(routed.version, job, choice)

    # The engine's callbacks, by way of the choices.

    def _begin(self) -> None:
        if not self._started and self._head is not None:
            self._started = True
            self._sink.on_start(self._head)

    def chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        """Text of a choice that may be shown."""
        self._begin()
        if text or logprobs:
            now = self._service.clock()
            if not self._chunks:
                self._first_text = now
            elif now - self._last_text > self._worst_gap:
                self._worst_gap = now - self._last_text
            self._last_text = now
            self._chunks += 1
            self._choices[choice].texts.append(text)
            self._sink.on_chunk(choice, text, logprobs)

    def finished(self, choice: int, finish: Finish) -> None:
        """A choice is complete."""
        self._begin()
        self._choices[choice].finish = finish
        self._sink.on_finish(choice, finish)
        self._open -= 1
        if not self._open:
            usage = self._usage()
            self._settle("finished", usage, None)
            self._sink.on_end(usage)

    def failed(self, error: PenstockError) -> None:
        """A choice failed, and with it the request."""
        self._fail(error)

    def defect(self, cause: Exception) -> None:
        """A defect of ours: the log has its traceback, the caller a 500 or the end of the stream."""
        log.error("request %s failed by a defect", self._origin.request_id, exc_info=cause)
        error = Internal("Internal error of the gateway; its log has the details under this request id.")
        if self._settled:  # the sink failed at its last word
            self._sink.on_error(error)
        else:
            self._fail(error)

    def abandon(self, outcome: Outcome = "abandoned") -> None:
        """The client is gone, or has called it off ("cancelled"): the engine's work ends, nobody is told."""
        if not self._settled:
            self._cancel_calls()
            self._settle(outcome, self._usage(), None)

    def fail(self, error: PenstockError) -> None:
        """End it from outside: our own shutdown."""
        self._fail(error)

    def _expire(self) -> None:
        self._timer = None
        self._fail(
            EngineTimeout(f"The request's deadline of {self._deadline:g} s passed before the answer was complete.")
        )

    def _fail(self, error: PenstockError) -> None:
        if self._settled:
            return
        self._cancel_calls()
        self._settle(_outcome(error), self._usage(), error)
        self._sink.on_error(error)

    def _cancel_calls(self) -> None:
        for choice in self._choices:
            choice.cancel()

    def _usage(self) -> Usage:
        prompt: int | None = 0
        completion: int | None = 0
        for choice in self._choices:
            choice_prompt, choice_completion = choice.counts()
            if choice.first_turn:  # the n answers to one prompt read it once
                prompt = None if prompt is None or choice_prompt is None else prompt + choice_prompt
            completion = None if completion is None or choice_completion is None else completion + choice_completion
        return Usage(prompt, completion)

    def _settle(self, outcome: Outcome, usage: Usage, error: PenstockError | None) -> None:
        self._settled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._admitted:
            self._service.stats.in_flight -= 1
            self._service.open.discard(self)
        if self.routed is not None:
            self._service.stats.leave(self.routed.version.endpoint, self.routed.version.name)
        record = self._record(outcome, usage, error)
        for choice in self._choices:
            choice.call = None
        self._choices.clear()  # they led back here, and calls to their choices: now nothing waits for the collector
        self._service.settle(record)

    def _record(self, outcome: Outcome, usage: Usage, error: PenstockError | None) -> Record:
        request, origin, routed = self._request, self._origin, self.routed
        endpoint = self._snapshot.endpoints.get(routed.version.endpoint) if routed else None
        version = routed.version if routed else None
        cost = cost_of(usage, version.price) if version is not None else None
        return Record(
            id=self._id,
            at=self._at,
            outcome=outcome,
            worker=self._service.worker,
            face=origin.face,
            dialect=origin.dialect,
            request_id=origin.request_id,
            model=request.model,
            endpoint=version.endpoint if version is not None else "",
            version=version.name if version is not None else "",
            reason=routed.reason if routed is not None else "",
            fingerprint=self._head.fingerprint if self._head is not None else "",
            key_hash=self._service.hash_key(self._key) if self._key else "",
            api_key=origin.api_key,
            # Of what named no endpoint nothing is kept: it may have been meant for one that keeps nothing.
            content=endpoint.content if endpoint is not None else "none",
            messages=request.messages,
            prompts=request.prompts,
            choices=tuple([Choice("".join(choice.texts), choice.finish) for choice in self._choices]),
            n=request.n,
            stream=request.stream,
            sampling=self._sampling,
            determinism=version.determinism if version is not None else "",
            guide=request.guide.kind if request.guide is not None else "",
            prompt_tokens=usage.prompt_tokens if self._sent else None,
            completion_tokens=usage.completion_tokens if self._sent else None,
            sent=self._since(self._sent),
            first_text=self._since(self._first_text),
            last_text=self._since(self._last_text),
            ended=self._service.clock() - self._received,
            chunks=self._chunks,
            worst_gap=self._worst_gap if self._chunks > 1 else None,
            cost=cost if self._sent else None,
            price=version.price.name if version is not None and version.price is not None and cost is not None else "",
            replica=self._service.engine.replica if self._sent else "",
            failure=_failure(error) if error is not None else None,
            trace=origin.trace,
        )

    def _since(self, moment: int) -> int | None:
        return moment - self._received if moment else None


class _Choice:
    """One generation of a request: hears the engine, enforces stop strings, tells the inference."""

    __slots__ = (
        "_done",
        "_inference",
        "_result",
        "_scanner",
        "_uncovered",
        "_withheld",
        "call",
        "finish",
        "first_turn",
        "index",
        "texts",
    )

    def __init__(self, inference: Inference, index: int, first_turn: bool, stops: tuple[str, ...]) -> None:
        self._inference = inference
        self._scanner = StopScanner(stops) if stops else None
        self._withheld: list[TokenLogprob] = []
        self._uncovered = 0  # characters that were shown and whose log-probabilities were not yet
        self._result: Result | None = None
        self._done = False
        self.index = index
        self.first_turn = first_turn
        self.call: Call | None = None
        self.texts: list[str] = []  # what was sent, for the record
        self.finish = ""

    def on_chunk(self, chunk: Chunk) -> None:
        try:
            if self._scanner is None:
                self._inference.chunk(self.index, chunk.text, chunk.logprobs)
            else:
                self._scan(self._scanner, chunk)
        except Exception as cause:
            self._inference.defect(cause)

    def on_finish(self, result: Result) -> None:
        self._result = result
        try:
            if self._scanner is not None:
                held = self._scanner.finish()
                if held or self._withheld:
                    self._inference.chunk(self.index, held, tuple(self._withheld))
            self._finish(result.finish)
        except Exception as cause:
            self._inference.defect(cause)

    def on_error(self, error: PenstockError) -> None:
        if not self._done:
            self._done = True
            try:
                self._inference.failed(error)
            except Exception as cause:
                self._inference.defect(cause)

    def _scan(self, scanner: StopScanner, chunk: Chunk) -> None:
        text = scanner.push(chunk.text)
        self._inference.chunk(self.index, text, self._logprobs_of(text, chunk.logprobs))
        if scanner.stopped:
            # The engine missed it, or is about to stop by itself; either way no more of its text is wanted.
            self._withheld.clear()
            if self.call is not None:
                self.call.cancel()
            self._finish("stop")

    def _logprobs_of(self, shown: str, logprobs: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
        # A token's entry goes out with the last character of its text: it must not tell what is held back or cut.
        self._uncovered += len(shown)
        self._withheld += logprobs
        count = 0
        for entry in self._withheld:
            if len(entry.token) > self._uncovered:
                break
            self._uncovered -= len(entry.token)
            count += 1
        released = tuple(self._withheld[:count])
        del self._withheld[:count]
        return released

    def _finish(self, finish: Finish) -> None:
        if not self._done:
            self._done = True
            self._inference.finished(self.index, finish)

    def cancel(self) -> None:
        if not self._done:
            self._done = True
            if self.call is not None:
                self.call.cancel()

    def counts(self) -> tuple[int | None, int | None]:
        if self._result is not None:
            return self._result.prompt_tokens, self._result.completion_tokens
        return self.call.counts() if self.call is not None else (None, None)


def _sampling_of_turn(sampling: Sampling, turn: int) -> Sampling:
    # n answers from one seed must differ, and be the same n answers next time.
    if turn == 0 or sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + turn) % 2**64)


def _outcome(error: PenstockError) -> Outcome:
    if isinstance(error, Overloaded):
        return "shed"
    if isinstance(error, Cancelled):
        return "cancelled"
    return "refused" if error.status < 500 else "failed"


def _failure(error: PenstockError) -> Failure:
    return Failure(error.code or type(error).__name__, error.message, error.status, error.param)
