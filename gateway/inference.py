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
from datetime import UTC, datetime

from msgspec.structs import replace

from gateway.choice import Choice
from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest, EngineTimeout, Internal, Overloaded, PenstockError
from gateway.core.request import Request, Sampling
from gateway.engines.base import Job
from gateway.journal.record import Choice as Said
from gateway.journal.record import Outcome, Record, cost_of
from gateway.keys import visible
from gateway.routing.policy import apply_policy
from gateway.routing.resolve import Routed, find_endpoint, one_pin, route
from gateway.service import Origin, Service, Sink, failure_of, outcome_of
from gateway.stats import InFlight

log = logging.getLogger("penstock.inference")


class Inference:
    """One request, from admission to settlement. Its sink may hear all of it before `start` returns."""

    __slots__ = (
        "_admitted",
        "_at",
        "_choices",
        "_chunks",
        "_counted",
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
        self._counted: InFlight | None = None
        self._deadline = service.request_timeout if origin.deadline is None else origin.deadline
        self._timer: asyncio.TimerHandle | None = None
        self._choices: list[Choice] = []
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
        version = self.routed.version
        self._counted = self._service.stats.enter(version.endpoint, version.name)
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
                self._choices.append(Choice(self, len(self._choices), turn == 0, sampling.stop))
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

    def chunk(self, choice: Choice, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        """Text of a choice that may be shown."""
        if not self._started:
            self._begin()
        if text or logprobs:
            now = self._service.clock()
            if self._chunks:
                gap = now - self._last_text
                if gap > self._worst_gap:
                    self._worst_gap = gap
            else:
                self._first_text = now
            self._last_text = now
            self._chunks += 1
            choice.texts.append(text)
            self._sink.on_chunk(choice.index, text, logprobs)

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
        self._settle(outcome_of(error), self._usage(), error)
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
        if self._counted is not None:
            self._counted.in_flight -= 1
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
            choices=tuple([Said("".join(choice.texts), choice.finish) for choice in self._choices]),
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
            failure=failure_of(error) if error is not None else None,
            trace=origin.trace,
        )

    def _since(self, moment: int) -> int | None:
        return moment - self._received if moment else None


def _sampling_of_turn(sampling: Sampling, turn: int) -> Sampling:
    # n answers from one seed must differ, and be the same n answers next time.
    if turn == 0 or sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + turn) % 2**64)
