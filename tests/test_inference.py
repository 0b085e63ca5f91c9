"""The request path, phase by phase: a scripted engine that is stepped by hand, and a clock that is set."""

import heapq
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest, EngineError, EngineUnavailable, PenstockError
from gateway.core.request import Guide, Message, Request, Sampling
from gateway.engines.base import Job, Listener, Readiness, Result
from gateway.inference import Inference
from gateway.journal.record import Choice, Failure, Record, Trace, decode_record, encode_record
from gateway.routing.version import Determinism, Endpoint, Price, SamplingDefaults, Version
from gateway.service import Origin, Service
from gateway.snapshot import take_snapshot
from gateway.stats import Stats

TEMPLATE = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"


class Clock:
    """What the service asks of a loop: the time, and to be called later."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> "Timer":
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now + delay, len(self._timers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.cancelled = True
                timer.callback()

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for *_, timer in self._timers)


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandCall:
    """A job under way. It says what the test says, and by the contract nothing after cancel or an end."""

    def __init__(self, job: Job, listener: Listener) -> None:
        self.job = job
        self.listener = listener
        self.cancels = 0
        self.pieces = 0
        self.over = False

    def cancel(self) -> None:
        self.cancels += 1
        self.over = True

    def counts(self) -> tuple[int | None, int | None]:
        return len(self.job.prompt), self.pieces

    def chunk(self, text: str, *logprobs: TokenLogprob) -> None:
        if not self.over:
            self.pieces += 1
            self.listener.on_chunk(text, logprobs)

    def finish(self, finish: Finish = "stop", counted: bool = True) -> None:
        if not self.over:
            self.over = True
            self.listener.on_finish(Result(finish, *(self.counts() if counted else (None, None))))

    def error(self, error: PenstockError) -> None:
        if not self.over:
            self.over = True
            self.listener.on_error(error)


class HandEngine:
    replica = "hand:1"

    def __init__(self) -> None:
        self.calls: list[HandCall] = []
        self.raises: Exception | None = None
        self.raise_at = 0

    async def start(self, versions: list[Version]) -> None: ...

    def readiness(self, version: Version) -> Readiness:
        return Readiness(True, "")

    def call(self, version: Version, job: Job, listener: Listener) -> HandCall:
        if self.raises is not None and len(self.calls) == self.raise_at:
            raise self.raises
        self.calls.append(HandCall(job, listener))
        return self.calls[-1]

    async def close(self) -> None: ...


class Ear:
    """A sink that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.head: Head | None = None
        self.fail_at = ""

    def _hear(self, *what: Any) -> None:
        assert not self.over, f"{what} after {self.heard[-1]}"
        if what[0] == self.fail_at:
            self.fail_at = ""
            raise ZeroDivisionError("a defect in the sink")
        self.heard.append(what)

    @property
    def over(self) -> bool:
        return bool(self.heard) and self.heard[-1][0] in ("end", "error")

    @property
    def kinds(self) -> list[str]:
        return [what[0] for what in self.heard]

    def on_start(self, head: Head) -> None:
        self._hear("start")
        self.head = head

    def on_chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self._hear("chunk", choice, text, *([logprobs] if logprobs else []))

    def on_finish(self, choice: int, finish: Finish) -> None:
        self._hear("finish", choice, finish)

    def on_end(self, usage: Usage) -> None:
        self._hear("end", usage)

    def on_error(self, error: PenstockError) -> None:
        self._hear("error", error.status, error.code)
        self.error = error

    def text(self, choice: int = 0) -> str:
        return "".join(what[2] for what in self.heard if what[0] == "chunk" and what[1] == choice)


def endpoint(
    name: str = "assistant",
    *,
    determinism: Determinism = "free",
    defaults: SamplingDefaults = SamplingDefaults(),  # noqa: B008
    template: str = TEMPLATE,
    price: Price | None = None,
    **fields: Any,
) -> Endpoint:
    versions = {
        one: Version(name, one, "m", chat_template=template, determinism=determinism, defaults=defaults, price=price)
        for one in ("v1", "v2")
    }
    return Endpoint(name, versions, {"v1": 1.0, "v2": 0.0}, **fields)


class Desk:
    """A service over the hand engine, and the requests that a test makes of it."""

    def __init__(self, *endpoints: Endpoint, concurrent_requests: int = 100, request_timeout: float = 60.0) -> None:
        self.clock = Clock()
        self.engine = HandEngine()
        self.stats = Stats()
        self.records: list[Record] = []
        ids = iter(range(10**6))
        self.service = Service(
            take_snapshot({one.name: one for one in endpoints or (endpoint(),)}),
            self.engine,
            loop=self.clock,  # type: ignore[arg-type]
            next_id=lambda: f"id{next(ids)}",
            concurrent_requests=concurrent_requests,
            request_timeout=request_timeout,
            stats=self.stats,
            journal=self.records.append,
            hash_key=lambda key: f"#{key}",
            worker=3,
            clock=lambda: round(self.clock.now * 1e9),
        )

    def ask(self, request: Request | None = None, /, **origin: Any) -> tuple[Ear, Inference]:
        ear = Ear()
        headers: dict[str, str] = origin.pop("headers", {})
        known = Origin("req-1", headers.get, **origin)
        inference = Inference(self.service, request or ask(), known, ear)
        inference.start()
        return ear, inference

    @property
    def outcomes(self) -> dict[str, int]:
        """Records so far, by the failure's code or else the outcome."""
        return dict(Counter(one.failure.code if one.failure else one.outcome for one in self.records))


def ask(model: str = "assistant", text: str = "hi", **fields: Any) -> Request:
    return Request(model, messages=(Message("user", text),), stream=True, **fields)


def complete(*prompts: str, **fields: Any) -> Request:
    return Request("assistant", prompts=prompts, stream=True, **fields)


# From start to end


def test_an_answer_from_start_to_end() -> None:
    desk = Desk()
    ear, _ = desk.ask()
    assert ear.heard == []  # nothing before the first sign of life
    assert desk.stats.in_flight == 1
    (call,) = desk.engine.calls
    call.chunk("Hel")
    assert ear.kinds == ["start", "chunk"]
    call.chunk("lo")
    call.finish("length")
    assert ear.heard == [
        ("start",),
        ("chunk", 0, "Hel"),
        ("chunk", 0, "lo"),
        ("finish", 0, "length"),
        ("end", Usage(8, 2)),
    ]
    assert (desk.stats.in_flight, desk.outcomes, desk.clock.pending) == (0, {"finished": 1}, 0)


def test_the_job_is_what_was_asked() -> None:
    desk = Desk(endpoint(defaults=SamplingDefaults(max_tokens=9, temperature=0.5)), request_timeout=60)
    guide = Guide("json_object")
    desk.ask(ask(text="Hé", guide=guide, sampling=Sampling(top_p=0.5)))
    job = desk.engine.calls[0].job
    assert (job.id, job.prompt, job.guide, job.stream, job.timeout) == ("id0-0", "user:Hé;", guide, True, 60)
    assert job.sampling == Sampling(max_tokens=9, temperature=0.5, top_p=0.5)


def test_the_head_names_the_version_and_what_it_decided() -> None:
    desk = Desk(endpoint(determinism="seeded"))
    ear, inference = desk.ask(ask("assistant@v2"))
    desk.engine.calls[0].finish()
    assert ear.head is not None
    head = ear.head
    assert (head.id, head.endpoint, head.version, head.determinism) == ("id0", "assistant", "v2", "seeded")
    assert head.fingerprint.startswith("assistant@v2:")
    assert head.seed == desk.engine.calls[0].job.sampling.seed
    assert head.seed is not None
    assert "id0 assistant@v2" in repr(inference)


def test_an_empty_first_chunk_is_a_sign_of_life_and_no_text() -> None:
    desk = Desk()
    ear, _ = desk.ask()
    desk.engine.calls[0].chunk("")
    assert ear.heard == [("start",)]
    desk.engine.calls[0].finish()
    assert ear.kinds == ["start", "finish", "end"]


def test_an_answer_without_any_text() -> None:
    desk = Desk()
    ear, _ = desk.ask()
    desk.engine.calls[0].finish()
    assert ear.heard == [("start",), ("finish", 0, "stop"), ("end", Usage(8, 0))]


def test_times_are_taken() -> None:
    desk = Desk()
    desk.ask()
    desk.clock.advance(0.2)
    desk.engine.calls[0].chunk("")  # no text yet
    desk.clock.advance(0.2)
    desk.engine.calls[0].chunk("a")
    for pause in (1, 0.5, 1.5):
        desk.clock.advance(pause)
        desk.engine.calls[0].chunk("b")
    desk.clock.advance(3)
    desk.engine.calls[0].finish()
    (record,) = desk.records
    assert (record.sent, record.chunks) == (0, 4)
    times = (record.first_text, record.last_text, record.worst_gap, record.ended)
    assert [round(time / 1e9, 6) for time in times if time is not None] == [0.4, 3.4, 1.5, 6.4]
    assert record.per_token == pytest.approx(3e9 / 4)  # the empty chunk was a token too


# The record


def test_the_record_of_an_answer() -> None:
    price = Price("2026-11", input=10, output=100)
    desk = Desk(endpoint(sticky="user", price=price, content="hashed", determinism="seeded"))
    trace = Trace("ab" * 16, "cd" * 8)
    before = time.time_ns()
    desk.ask(
        ask(user="u1", n=2, sampling=Sampling(seed=7, stop=("X",)), guide=Guide("json_object")),
        face="grpc",
        dialect="d",
        api_key="team-a",
        trace=trace,
    )
    one, two = desk.engine.calls
    one.chunk("Hel")
    two.chunk("ho X")
    one.chunk("lo")
    one.finish("length")
    (record,) = desk.records
    assert before <= record.at <= time.time_ns()
    assert (record.id, record.request_id, record.face, record.dialect) == ("id0", "req-1", "grpc", "d")
    assert (record.outcome, record.worker, record.api_key, record.trace) == ("finished", 3, "team-a", trace)
    assert (record.model, record.endpoint, record.version) == ("assistant", "assistant", "v1")
    assert (record.reason, record.key_hash) == ("sticky", "#u1")
    assert record.fingerprint.startswith("assistant@v1:")
    assert (record.messages, record.prompts) == ((Message("user", "hi"),), ())
    assert record.choices == (Choice("Hello", "length"), Choice("ho ", "stop"))
    assert (record.n, record.stream, record.guide, record.determinism) == (2, True, "json_object", "seeded")
    assert record.sampling is not None
    assert (record.sampling.seed, record.sampling.stop, record.sampling.max_tokens) == (7, ("X",), 256)
    assert (record.prompt_tokens, record.completion_tokens) == (8, 3)
    assert (record.cost, record.price) == (8 * 10 + 3 * 100, "2026-11")
    assert (record.replica, record.content, record.failure) == ("hand:1", "hashed", None)
    assert decode_record(encode_record(record)) == record


def test_what_is_not_known_is_null_and_not_nought() -> None:
    desk = Desk(endpoint(price=Price("p", 10, 100)))
    desk.ask()
    desk.engine.calls[0].finish(counted=False)
    desk.ask(ask("nobody"))
    uncounted, refused = desk.records
    assert (uncounted.cost, uncounted.price, uncounted.completion_tokens) == (None, "", None)
    assert (refused.outcome, refused.version, refused.sent, refused.cost) == ("refused", "", None, None)
    assert (refused.prompt_tokens, refused.first_text, refused.replica) == (None, None, "")
    assert refused.failure is not None
    assert (refused.failure.code, refused.failure.status) == ("model_not_found", 404)
    assert (refused.messages, refused.content) == ((Message("user", "hi"),), "none")
    unpriced = Desk()
    unpriced.ask()
    unpriced.engine.calls[0].finish()
    assert unpriced.records[0].cost is None


def test_each_end_has_its_outcome() -> None:
    desk = Desk(concurrent_requests=1)
    desk.ask()
    desk.ask()
    desk.engine.calls[0].error(EngineUnavailable("gone"))
    for end in ("abandoned", "cancelled"):
        desk.ask()[1].abandon(end)
    ear, inference = desk.ask()
    desk.engine.calls[-1].chunk("half")
    inference.fail(EngineUnavailable("The gateway is shutting down."))
    assert ear.kinds[-1] == "error"
    inference.fail(EngineUnavailable("twice"))
    desk.service.refused(BadRequest("no JSON", param="body"), Origin("req-2", {}.get, dialect="openai-chat"))
    assert [one.outcome for one in desk.records] == ["shed", "failed", "abandoned", "cancelled", "failed", "refused"]
    assert desk.records[4].choices == (Choice("half", ""),)
    assert (desk.records[5].request_id, desk.records[5].dialect, desk.records[5].failure) == (
        "req-2",
        "openai-chat",
        Failure("invalid_request", "no JSON", 400, "body"),
    )
    assert desk.stats.in_flight == 0


# Routing as the path does it


@pytest.mark.parametrize(
    ("request_", "headers", "label"),
    [
        (ask(), {}, "assistant@v1"),
        (ask("assistant@v2"), {}, "assistant@v2"),
        (ask(), {"x-penstock-version": "v2"}, "assistant@v2"),
        (ask("assistant@v2"), {"x-penstock-version": "v2"}, "assistant@v2"),
    ],
)
def test_pins(request_: Request, headers: dict[str, str], label: str) -> None:
    _, inference = Desk().ask(request_, headers=headers)
    assert inference.routed is not None
    assert inference.routed.version.label == label


@pytest.mark.parametrize(
    ("sticky", "request_", "headers", "reason"),
    [
        ("user", ask(user="u"), {}, "sticky"),
        ("user", ask(), {"x-user": "u"}, "weight"),
        ("header:x-user", ask(user="u"), {}, "weight"),
        ("header:x-user", ask(), {"x-user": "u"}, "sticky"),
        ("none", ask(user="u"), {"x-user": "u"}, "weight"),
    ],
)
def test_sticky_keys(sticky: str, request_: Request, headers: dict[str, str], reason: str) -> None:
    _, inference = Desk(endpoint(sticky=sticky)).ask(request_, headers=headers)
    assert inference.routed is not None
    assert inference.routed.reason == reason


REFUSED = [
    (ask("nobody"), {}, (404, "model_not_found")),
    (ask("assistant@v9"), {}, (404, "model_not_found")),
    (ask("assistant@"), {}, (404, "model_not_found")),
    (ask(), {"x-penstock-version": "v9"}, (404, "model_not_found")),
    (ask("assistant@v1"), {"x-penstock-version": "v2"}, (400, "invalid_request")),
    (ask(sampling=Sampling(max_tokens=10**6)), {}, (400, "invalid_request")),
    (ask(n=100), {}, (400, "invalid_request")),
    (Request("assistant", messages=(Message("assistant", "x", tool_calls=[]),)), {}, None),
]


@pytest.mark.parametrize(("request_", "headers", "heard"), REFUSED)
def test_a_refusal_comes_before_the_engine(request_: Request, headers: dict[str, str], heard: Any) -> None:
    desk = Desk()
    ear, _ = desk.ask(request_, headers=headers)
    if heard is None:  # the one good row: the table can tell
        assert len(desk.engine.calls) == 1
        return
    assert ear.heard == [("error", *heard)]
    assert desk.engine.calls == []
    assert (desk.stats.in_flight, sum(desk.outcomes.values()), desk.clock.pending) == (0, 1, 0)


def test_a_version_without_a_template_takes_prompts_only() -> None:
    desk = Desk(endpoint(template=""))
    ear, _ = desk.ask()
    assert ear.heard == [("error", 400, "invalid_request")]
    assert "/v1/completions" in ear.error.message
    desk.ask(complete("raw {{ text }}"))
    assert desk.engine.calls[0].job.prompt == "raw {{ text }}"


def test_a_request_keeps_the_snapshot_that_it_began_with() -> None:
    desk = Desk()
    ear, _ = desk.ask()
    desk.service.snapshot = take_snapshot({})
    desk.engine.calls[0].finish()
    assert ear.kinds[-1] == "end"
    assert desk.ask()[0].heard == [("error", 404, "model_not_found")]


# Failure


def test_a_failure_before_the_first_chunk_comes_without_a_start() -> None:
    desk = Desk()
    ear, _ = desk.ask()
    desk.engine.calls[0].error(EngineError("broke"))
    assert ear.heard == [("error", 502, "engine_error")]
    assert (desk.stats.in_flight, desk.outcomes) == (0, {"engine_error": 1})


def test_a_failure_after_the_first_chunk_ends_the_stream() -> None:
    desk = Desk()
    ear, _ = desk.ask()
    desk.engine.calls[0].chunk("a")
    desk.engine.calls[0].error(EngineError("broke"))
    assert ear.kinds == ["start", "chunk", "error"]
    assert (desk.stats.in_flight, desk.outcomes) == (0, {"engine_error": 1})


def test_one_choice_that_fails_ends_all() -> None:
    desk = Desk()
    ear, _ = desk.ask(ask(n=3))
    first, second, third = desk.engine.calls
    first.finish()
    second.chunk("b")
    third.error(EngineUnavailable("gone"))
    assert ear.kinds[-1] == "error"
    assert [call.cancels for call in desk.engine.calls] == [0, 1, 0]  # what has ended is not cancelled
    assert (desk.stats.in_flight, desk.outcomes) == (0, {"engine_unavailable": 1})


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_engine_that_refuses_a_call_ends_those_before_it(at: int) -> None:
    desk = Desk()
    desk.engine.raises, desk.engine.raise_at = EngineUnavailable("not ready", retry_after=2.0), at
    ear, inference = desk.ask(ask(n=3))
    assert ear.heard == [("error", 503, "engine_unavailable")]
    assert [call.cancels for call in desk.engine.calls] == [1] * at
    assert inference.routed is not None
    assert (desk.stats.in_flight, desk.outcomes, desk.clock.pending) == (0, {"engine_unavailable": 1}, 0)


@pytest.mark.parametrize("at", [0, 1])
def test_a_defect_in_the_engines_call_is_a_500_and_settles(at: int, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.engine.raises, desk.engine.raise_at = ZeroDivisionError("secret"), at
    ear, _ = desk.ask(ask(n=2))
    assert ear.heard == [("error", 500, "internal_error")]
    assert "secret" not in ear.error.message
    assert "req-1" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert (desk.stats.in_flight, desk.outcomes, desk.clock.pending) == (0, {"internal_error": 1}, 0)
    desk.clock.advance(1000)  # and no deadline speaks later


@pytest.mark.parametrize("where", ["start", "chunk", "finish", "end"])
def test_a_defect_in_the_sink_is_told_once_and_does_not_reach_the_engine(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    ear, _ = desk.ask()
    ear.fail_at = where
    desk.engine.calls[0].chunk("a")
    desk.engine.calls[0].finish()
    assert ear.heard[-1] == ("error", 500, "internal_error")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert desk.stats.in_flight == 0
    assert sum(desk.outcomes.values()) == 1
    assert desk.clock.pending == 0


# The deadline, the client, the limit


def test_the_deadline() -> None:
    desk = Desk(request_timeout=60)
    ear, _ = desk.ask(ask(n=2))
    desk.clock.advance(59.9)
    assert ear.heard == []
    desk.clock.advance(0.1)
    assert ear.heard == [("error", 504, "timeout")]
    assert "60 s" in ear.error.message
    assert [call.cancels for call in desk.engine.calls] == [1, 1]
    assert (desk.stats.in_flight, desk.outcomes) == (0, {"timeout": 1})


def test_the_callers_own_deadline_and_in_mid_stream() -> None:
    desk = Desk(request_timeout=60)
    ear, _ = desk.ask(ask(), deadline=0.25)
    assert desk.engine.calls[0].job.timeout == 0.25
    desk.engine.calls[0].chunk("a")
    desk.clock.advance(0.25)
    assert ear.kinds == ["start", "chunk", "error"]
    assert ear.error.status == 504


def test_a_client_that_is_gone_ends_all_calls_and_hears_nothing() -> None:
    desk = Desk()
    ear, inference = desk.ask(ask(n=3))
    desk.engine.calls[0].finish()
    inference.abandon()
    inference.abandon()
    assert [call.cancels for call in desk.engine.calls] == [0, 1, 1]
    assert ear.kinds == ["start", "finish"]
    assert (desk.stats.in_flight, desk.outcomes, desk.clock.pending) == (0, {"abandoned": 1}, 0)


def test_the_limit_of_concurrent_requests() -> None:
    desk = Desk(concurrent_requests=2)
    asked = [desk.ask() for _ in range(3)]
    assert asked[2][0].heard == [("error", 429, "overloaded")]
    assert asked[2][0].error.retry_after == 1.0
    assert "limit of 2" in asked[2][0].error.message
    assert (len(desk.engine.calls), desk.stats.in_flight) == (2, 2)
    desk.engine.calls[0].finish()
    ear, _ = desk.ask()
    assert (ear.heard, len(desk.engine.calls)) == ([], 3)
    for call in desk.engine.calls:
        call.finish()
    assert (desk.stats.in_flight, desk.outcomes) == (0, {"overloaded": 1, "finished": 3})


# Several choices


def test_choices_of_several_prompts_and_what_they_count() -> None:
    desk = Desk()
    ear, _ = desk.ask(complete("one", "fives", n=2))
    calls = desk.engine.calls
    assert [(call.job.id, call.job.prompt) for call in calls] == [
        ("id0-0", "one"),
        ("id0-1", "one"),
        ("id0-2", "fives"),
        ("id0-3", "fives"),
    ]
    for index in (3, 1, 0, 2):
        calls[index].chunk(f"t{index}")
        calls[index].finish()
    assert [ear.text(index) for index in range(4)] == ["t0", "t1", "t2", "t3"]
    assert ear.heard[-1] == ("end", Usage(3 + 5, 4))  # a prompt is read once, whatever n
    assert ear.kinds.count("start") == 1
    assert (desk.records[0].prompt_tokens, desk.records[0].completion_tokens) == (8, 4)


def test_one_choice_that_cannot_count_leaves_the_sum_unknown() -> None:
    desk = Desk()
    ear, _ = desk.ask(complete("a", n=2))
    desk.engine.calls[0].finish()
    desk.engine.calls[1].finish(counted=False)
    assert ear.heard[-1] == ("end", Usage(1, None))


@pytest.mark.parametrize("determinism", ["seeded", "free"])
def test_seeds_of_the_choices_differ_and_repeat(determinism: Determinism) -> None:
    def seeds(seed: int | None) -> list[int | None]:
        desk = Desk(endpoint(determinism=determinism))
        desk.ask(complete("p", "q", n=3, sampling=Sampling(seed=seed)))
        return [call.job.sampling.seed for call in desk.engine.calls]

    top = 2**64 - 1
    assert seeds(7) == [7, 8, 9, 7, 8, 9]
    assert seeds(top) == [top, 0, 1, top, 0, 1]  # and stay within 64 bits
    unsaid = seeds(None)
    assert unsaid == seeds(None)
    assert len(set(unsaid)) == (3 if determinism == "seeded" else 1)


# Stop strings


def test_a_stop_string_across_chunks_ends_the_engines_work() -> None:
    desk = Desk()
    ear, _ = desk.ask(ask(sampling=Sampling(stop=("END",))))
    (call,) = desk.engine.calls
    for piece in ("one E", "N", "D two"):
        call.chunk(piece)
    assert ear.text() == "one "
    assert ear.heard[-2:] == [("finish", 0, "stop"), ("end", Usage(8, 3))]  # counted by the call: it never finished
    assert call.cancels == 1
    assert (desk.stats.in_flight, desk.outcomes) == (0, {"finished": 1})


def test_text_held_for_a_stop_string_comes_at_the_end() -> None:
    desk = Desk()
    ear, _ = desk.ask(ask(sampling=Sampling(stop=("END",))))
    desk.engine.calls[0].chunk("one EN")
    assert ear.text() == "one "
    desk.engine.calls[0].finish("length")
    assert ear.text() == "one EN"
    assert ear.heard[-2] == ("finish", 0, "length")
    assert desk.engine.calls[0].cancels == 0


def test_a_stop_string_of_the_version_holds_where_none_was_asked() -> None:
    desk = Desk(endpoint(defaults=SamplingDefaults(stop=("\n",))))
    ear, _ = desk.ask()
    desk.engine.calls[0].chunk("one\ntwo")
    assert (ear.text(), ear.kinds[-1]) == ("one", "end")


def test_stopping_one_choice_leaves_the_others() -> None:
    desk = Desk()
    ear, _ = desk.ask(ask(n=2, sampling=Sampling(stop=("X",))))
    first, second = desk.engine.calls
    first.chunk("aX")
    second.chunk("b")
    assert (first.cancels, second.cancels, ear.over) == (1, 0, False)
    second.finish()
    assert (ear.text(0), ear.text(1), ear.heard[-1]) == ("a", "b", ("end", Usage(8, 2)))


def test_log_probabilities_do_not_tell_what_a_stop_string_hides() -> None:
    desk = Desk()
    ear, _ = desk.ask(ask(sampling=Sampling(stop=("END",), logprobs=True)))
    tokens = [TokenLogprob(text, -1.0) for text in ("a", "E", "x", "E", "N", "D")]
    for token in tokens:
        desk.engine.calls[0].chunk(token.token, token)
    told = [entry for what in ear.heard if what[0] == "chunk" for entry in (what[3] if len(what) > 3 else ())]
    assert ear.text() == "aEx"
    assert told == tokens[:3]


def test_log_probabilities_of_held_text_come_with_it() -> None:
    desk = Desk()
    ear, _ = desk.ask(ask(sampling=Sampling(stop=("END",), logprobs=True)))
    tokens = [TokenLogprob(text, -1.0) for text in ("a", "E", "N")]
    for token in tokens:
        desk.engine.calls[0].chunk(token.token, token)
    desk.engine.calls[0].finish()
    assert [what[2:] for what in ear.heard if what[0] == "chunk"] == [("a", (tokens[0],)), ("EN", tuple(tokens[1:]))]


# Any order of events


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: each request settles once, and is told once how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(concurrent_requests=3, request_timeout=10)
        self.asked: list[tuple[Ear, Inference]] = []
        self.abandoned: set[int] = set()

    @initialize()
    def one_at_least(self) -> None:
        self.start(2, "X")

    @rule(n=st.integers(1, 3), stop=st.sampled_from(["", "X", "ab"]))
    def start(self, n: int, stop: str) -> None:
        self.asked.append(self.desk.ask(ask(n=n, sampling=Sampling(stop=(stop,) if stop else ()))))

    @precondition(lambda self: self.desk.engine.calls)
    @rule(data=st.data(), text=st.sampled_from(["", "a", "b", "X", "ab"]))
    def chunk(self, data: st.DataObject, text: str) -> None:
        data.draw(st.sampled_from(self.desk.engine.calls)).chunk(text)

    @precondition(lambda self: self.desk.engine.calls)
    @rule(data=st.data(), counted=st.booleans())
    def finish(self, data: st.DataObject, counted: bool) -> None:
        data.draw(st.sampled_from(self.desk.engine.calls)).finish(counted=counted)

    @precondition(lambda self: self.desk.engine.calls)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.desk.engine.calls)).error(EngineError("broke"))

    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.asked) - 1))
        if not self.asked[at][0].over:
            self.abandoned.add(at)
        self.asked[at][1].abandon()

    @rule(seconds=st.sampled_from([1, 5, 11]))
    def wait(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)

    @rule(data=st.data(), where=st.sampled_from(["start", "chunk", "finish", "end"]))
    def break_a_sink(self, data: st.DataObject, where: str) -> None:
        ear = data.draw(st.sampled_from(self.asked))[0]
        ear.fail_at = where

    @invariant()
    def all_add_up(self) -> None:
        open_ = [
            (ear, inference)
            for at, (ear, inference) in enumerate(self.asked)
            if not ear.over and at not in self.abandoned
        ]
        assert self.desk.stats.in_flight == len(open_)
        assert sum(self.desk.outcomes.values()) == len(self.asked) - len(open_)
        assert self.desk.clock.pending == len(open_)
        for ear, _ in self.asked:
            assert "start" not in ear.kinds[1:]
            assert set(ear.kinds) <= {"error"} or ear.kinds[0] == "start"
            ends = ear.kinds.count("end") + ear.kinds.count("error")
            assert ends <= 1

    def teardown(self) -> None:
        self.desk.clock.advance(100)
        assert self.desk.stats.in_flight == 0
        assert all(call.over for call in self.desk.engine.calls)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
