"""Trace context: what is believed of a caller's headers, and what Triton is sent."""

from __future__ import annotations

from random import Random

import httpx
import pytest

from gateway.journal.record import Trace
from gateway.trace_context import (
    Tracing,
    engine_span,
    parse_traceparent,
    parse_tracestate,
    sampled,
    traceparent_of,
)
from tests.inprocess import Gateway

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
LONG = f"a={'x' * 250},b={'x' * 200},c="  # 54 characters below the limit
BODY = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, False)),
        (f"00-{TRACE}-{SPAN}-03", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-02", (TRACE, SPAN, False)),
        (f"00-{TRACE}-{SPAN}-ff", (TRACE, SPAN, True)),
        (f"cc-{TRACE}-{SPAN}-01", (TRACE, SPAN, True)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", (TRACE, SPAN, True)),
        (f"cc-{TRACE}-{SPAN}-01-", (TRACE, SPAN, True)),
        (f"cc-{TRACE}-{SPAN}-01.more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"00-{TRACE}-{SPAN}-01-", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN.upper()}-01", None),
        (f"00-{TRACE}-{SPAN}-0A", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}0-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"0-{TRACE}-{SPAN}-01", None),
        (f" 00-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        (f"00_{TRACE}_{SPAN}_01", None),
        (f"00-{TRACE[:-1]}٣-{SPAN}-01", None),
        (f"00-{TRACE},00-{TRACE}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_traceparents(traceparent: str, expected: tuple[str, str, bool] | None) -> None:
    assert parse_traceparent(traceparent) == expected


@pytest.mark.parametrize(
    ("tracestate", "expected"),
    [
        (None, ""),
        ("", ""),
        ("a=1", "a=1"),
        ("a=1,b=2", "a=1,b=2"),
        ("a=1 ,\t b=2,,", "a=1,b=2"),
        ("tenant@system=x", "tenant@system=x"),
        ("0a=x y", "0a=x y"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a", ""),
        ("a=", ""),
        ("a=b=c", ""),
        ("a=\x7f", ""),
        ("a=é", ""),
        ("a=1\r\nx: y", ""),
        (",".join(f"k{i}=1" for i in range(32)), ",".join(f"k{i}=1" for i in range(32))),
        (",".join(f"k{i}=1" for i in range(33)), ""),
        ("a=" + "x" * 256, "a=" + "x" * 256),
        ("a=" + "x" * 257, ""),
        (f"{LONG}{'x' * 54}", f"{LONG}{'x' * 54}"),
        (f"{LONG}{'x' * 55}", ""),
    ],
)
def test_tracestates(tracestate: str | None, expected: str) -> None:
    assert parse_tracestate(tracestate) == expected


def test_a_callers_trace_goes_on_with_a_span_of_ours() -> None:
    trace = Tracing().start(f"00-{TRACE}-{SPAN}-01", "a=1")
    assert trace is not None
    assert (trace.trace, trace.parent, trace.sampled, trace.state) == (TRACE, SPAN, True, "a=1")
    assert parse_traceparent(traceparent_of(TRACE, trace.span, sampled=True).decode()) == (TRACE, trace.span, True)
    assert trace.span != SPAN


@pytest.mark.parametrize("traceparent", [None, "", "junk", f"ff-{TRACE}-{SPAN}-01"])
def test_without_a_caller_that_traces(traceparent: str | None) -> None:
    assert Tracing().start(traceparent, "a=1") is None, "nobody traces"
    trace = Tracing(exports=True).start(traceparent, "a=1")
    assert trace is not None
    assert (trace.parent, trace.sampled, trace.state) == ("", None, ""), "a state without its parent is nobody's"
    assert parse_traceparent(f"00-{trace.trace}-{trace.span}-01")


def test_ids_are_valid_whatever_the_dice_say() -> None:
    class Zeros(Random):
        def getrandbits(self, k: int, /) -> int:
            return 0

    trace = Tracing(exports=True, random=Zeros()).start(None, None)
    assert trace is not None
    assert parse_traceparent(f"00-{trace.trace}-{trace.span}-00")


def test_ids_differ() -> None:
    tracing = Tracing(exports=True)
    traces = [tracing.start(None, None) for _ in range(1000)]
    assert len({trace.trace for trace in traces if trace}) == len({trace.span for trace in traces if trace}) == 1000


def test_the_engines_span_is_another_valid_one() -> None:
    tracing = Tracing(exports=True, random=Random(1))
    for _ in range(100):
        trace = tracing.start(None, None)
        assert trace is not None
        below = engine_span(trace.span)
        assert below != trace.span
        assert int(below, 16) == int(trace.span, 16) | 1 << 63
        assert len(below) == 16


@pytest.mark.parametrize(
    ("trace", "share", "expected"),
    [
        (Trace("0" * 18 + "f" * 14, SPAN), 0.0, False),
        (Trace("f" * 18 + "0" * 14, SPAN), 1.0, True),
        (Trace("0" * 18 + "8" + "0" * 13, SPAN), 0.5, True),
        (Trace("f" * 18 + "7" + "f" * 13, SPAN), 0.5, False),
        (Trace("0" * 32, SPAN, sampled=True), 0.0, True),
        (Trace("f" * 32, SPAN, sampled=False), 1.0, False),
    ],
)
def test_sampled(trace: Trace, share: float, expected: bool) -> None:
    assert sampled(trace, share) is expected


def test_the_share_is_the_share() -> None:
    tracing = Tracing(exports=True, random=Random(7))
    traces = [trace for _ in range(20_000) if (trace := tracing.start(None, None))]
    assert sum(sampled(trace, 0.1) for trace in traces) == pytest.approx(2000, rel=0.1)


@pytest.mark.parametrize(
    ("exports", "share", "trace", "expected"),
    [
        (True, 1.0, None, ()),
        (True, 1.0, Trace(TRACE, "0000000000000001"), ((b"traceparent", f"00-{TRACE}-8000000000000001-01".encode()),)),
        (True, 0.0, Trace(TRACE, "0000000000000001"), ()),
        (True, 1.0, Trace(TRACE, "0000000000000001", SPAN, False), ()),
        (
            True,
            0.0,
            Trace(TRACE, "7000000000000001", SPAN, True, "a=1"),
            ((b"traceparent", f"00-{TRACE}-f000000000000001-01".encode()), (b"tracestate", b"a=1")),
        ),
        # Nothing of ours is exported: the engine's spans hang under the caller's own.
        (False, 0.0, Trace(TRACE, "1", SPAN, True), ((b"traceparent", f"00-{TRACE}-{SPAN}-01".encode()),)),
    ],
)
def test_what_triton_is_sent(
    exports: bool, share: float, trace: Trace | None, expected: tuple[tuple[bytes, bytes], ...]
) -> None:
    assert Tracing(exports=exports, share=share).metadata(trace) == expected


def ask(gateway: Gateway, **headers: str) -> None:
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers=headers)
    assert answer.status_code == 200, answer.text


def test_over_http_the_record_and_the_job_carry_it() -> None:
    with Gateway() as gateway:
        gateway.service.tracing = Tracing(exports=True, share=0.0)
        ask(gateway, traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="a=1")
        ask(gateway, traceparent=f"00-{TRACE}-{SPAN}-00")
        ask(gateway)
        traces = [record.trace for record in gateway.records]
        sent = [dict(call.job.metadata) for call in gateway.engine.calls]
    first, second, third = traces
    assert first is not None
    assert (first.trace, first.parent, first.sampled, first.state) == (TRACE, SPAN, True, "a=1")
    assert second is not None
    assert second.sampled is False
    assert third is not None
    assert third.trace != TRACE
    assert sent == [
        {b"traceparent": traceparent_of(TRACE, engine_span(first.span), sampled=True), b"tracestate": b"a=1"},
        {},
        {},
    ]


def test_over_http_nobody_traces() -> None:
    with Gateway() as gateway:
        ask(gateway)
        assert [record.trace for record in gateway.records] == [None]
        assert [call.job.metadata for call in gateway.engine.calls] == [()]


def test_a_refused_request_has_its_trace() -> None:
    with Gateway() as gateway:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", content=b"{", headers=headers)
        assert answer.status_code == 400
        (record,) = gateway.records
    assert record.trace is not None
    assert record.trace.parent == SPAN
