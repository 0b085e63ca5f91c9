"""Counters of a worker."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines.scripted import HOLD
from gateway.histogram import Histogram
from gateway.journal.record import Failure, Record
from gateway.metrics_names import BY_FIELD, METRICS, Rows
from gateway.stats import Stats
from tests.inprocess import Gateway

V1, V2 = ("e", "v1"), ("e", "v2")
MS = 1_000_000


def record(where: tuple[str, str] = V1, outcome: str = "finished", **fields: Any) -> Record:
    endpoint, version = where
    known: dict[str, Any] = {"id": "1", "at": 1, "endpoint": endpoint, "version": version, "outcome": outcome}
    return Record(**known | fields)


def streamed(where: tuple[str, str] = V1, **fields: Any) -> Record:
    """A stream of 11 tokens: first text after 20 ms, last after 120 ms."""
    times = {"sent": 60_000, "first_text": 20 * MS, "last_text": 120 * MS, "ended": 121 * MS}
    rest = {"stream": True, "chunks": 5, "prompt_tokens": 3, "completion_tokens": 11, "cost": 25}
    return record(where, **times | rest | fields)


def report(*settled: Record) -> dict[str, dict[tuple[str, ...], list[int]]]:
    """What a worker reports that has settled these, as the other side reads it."""
    stats = Stats()
    for one in settled:
        stats.settle(one)
    return read(stats)


def read(stats: Stats) -> dict[str, dict[tuple[str, ...], list[int]]]:
    sent = orjson.loads(orjson.dumps(stats.to_dict()))
    assert isinstance(sent.pop("life"), int)
    series = {field: {tuple(labels): figures for labels, figures in rows} for field, rows in sent.items()}
    assert {field: len(rows) for field, rows in sent.items()} == {field: len(rows) for field, rows in series.items()}
    return series


# Histograms


@pytest.mark.parametrize(
    ("nanoseconds", "bucket"),
    [(0, 0), (1 * MS, 0), (1 * MS + 1, 1), (5 * MS, 1), (10_000 * MS, 15), (10_001 * MS, 16), (10**18, 16)],
)
def test_a_bucket_holds_its_upper_edge(nanoseconds: int, bucket: int) -> None:
    edges = BY_FIELD["first_text"].edges
    histogram = Histogram(edges)
    histogram.observe(nanoseconds)
    assert histogram.counts == [int(at == bucket) for at in range(len(edges) + 1)]
    assert histogram.sum == nanoseconds


@given(st.lists(st.integers(0, 10**12)))
def test_a_histogram_counts_like_its_definition(values: list[int]) -> None:
    edges = (10, 1000, 10**9)
    histogram = Histogram(edges)
    for value in values:
        histogram.observe(value)
    bounds = [-1, *edges, 10**13]
    expected = [sum(low < value <= high for value in values) for low, high in pairwise(bounds)]
    assert histogram.figures() == [*expected, sum(values) // 1000]


def test_a_sum_of_years_still_fits_a_report() -> None:
    histogram = Histogram((1,))
    histogram.observe(2**64 * 100)
    assert orjson.loads(orjson.dumps(histogram.figures())) == [0, 1, 2**64 * 100 // 1000]


# Settlements


def test_settlements_add_up() -> None:
    timeout = Failure("timeout", "too late", 504)
    series = report(
        streamed(),
        streamed(prompt_tokens=5, completion_tokens=6, cost=75),
        streamed(V2, outcome="failed", failure=timeout, prompt_tokens=None, completion_tokens=7, cost=None),
        record(("", ""), "shed", failure=Failure("overloaded", "full", 429)),
        record(V1, "refused", failure=Failure("invalid_request", "no", 400), ended=MS),
    )
    assert series["requests"] == {
        ("e", "v1", "finished", ""): [2],
        ("e", "v1", "refused", "invalid_request"): [1],
        ("e", "v2", "failed", "timeout"): [1],
        ("", "", "shed", "overloaded"): [1],
    }
    assert series["tokens"] == {
        ("e", "v1", "input"): [8],
        ("e", "v1", "output"): [17],
        ("e", "v2", "input"): [0],
        ("e", "v2", "output"): [7],
    }
    assert series["cost"] == {V1: [100], V2: [0]}
    assert series["unpriced"] == {V1: [0], V2: [1]}
    counts = {
        field: {labels: sum(figures[:-1]) for labels, figures in series[field].items()}
        for field in ("first_text", "per_token", "duration", "overhead")
    }
    assert counts == {
        "first_text": {V1: 2, V2: 1},
        "per_token": {V1: 2, V2: 1},
        "duration": {("e", "v1", "finished"): 2, ("e", "v1", "refused"): 1, ("e", "v2", "failed"): 1},
        "overhead": {V1: 2, V2: 1},
    }


@pytest.mark.parametrize(
    ("field", "labels", "nanoseconds"),
    [
        ("first_text", V1, 20 * MS),
        ("per_token", V1, 10 * MS),
        ("duration", (*V1, "finished"), 121 * MS),
        ("overhead", V1, 60_000),
    ],
)
def test_what_is_timed(field: str, labels: tuple[str, ...], nanoseconds: int) -> None:
    expected = Histogram(BY_FIELD[field].edges)
    expected.observe(nanoseconds)
    assert report(streamed())[field] == {labels: expected.figures()}


@pytest.mark.parametrize(
    ("fields", "timed"),
    [
        ({}, {"first_text", "per_token", "duration", "overhead"}),
        ({"stream": False}, {"duration", "overhead"}),
        ({"chunks": 1, "last_text": 20 * MS}, {"first_text", "duration", "overhead"}),
        ({"completion_tokens": 1}, {"first_text", "duration", "overhead"}),
        ({"completion_tokens": None}, {"first_text", "duration", "overhead"}),
        ({"first_text": None, "last_text": None, "chunks": 0}, {"duration", "overhead"}),
        ({"sent": None, "first_text": None, "last_text": None, "chunks": 0}, {"duration"}),
        ({"endpoint": "", "version": "", "sent": None}, set()),
    ],
)
def test_what_was_not_seen_is_not_timed(fields: dict[str, Any], timed: set[str]) -> None:
    series = report(streamed(**fields))
    histograms = [metric.field for metric in METRICS if metric.edges]
    assert {one for one in histograms for figures in series.get(one, {}).values() if sum(figures[:-1])} == timed


@pytest.mark.parametrize(
    ("fields", "cost", "unpriced"),
    [({"cost": 7}, 7, 0), ({"cost": 0}, 0, 0), ({"cost": None}, 0, 1), ({"cost": None, "sent": None}, 0, 0)],
)
def test_an_unknown_cost_is_counted_as_unknown(fields: dict[str, Any], cost: int, unpriced: int) -> None:
    series = report(streamed(**fields))
    assert (series["cost"][V1], series["unpriced"][V1]) == ([cost], [unpriced])


def test_in_flight_by_version() -> None:
    stats = Stats()
    stats.in_flight = 3
    first, _, other = stats.enter(*V1), stats.enter(*V1), stats.enter(*V2)
    first.in_flight -= 1
    other.in_flight -= 1
    assert read(stats)["version_in_flight"] == {V1: [1], V2: [0]}
    assert read(stats)["in_flight"] == {(): [3]}


def test_each_process_has_a_life_of_its_own() -> None:
    first, second = Stats().to_dict(), Stats().to_dict()
    assert first["life"] < second["life"]


# Readings


def test_readings_are_made_at_each_report() -> None:
    stats, open_ = Stats(), [1]
    stats.add(lambda: {"client_connections": [((), [open_[0]])]})
    assert read(stats)["client_connections"] == {(): [1]}
    open_[0] = 2
    assert read(stats)["client_connections"] == {(): [2]}


def test_a_reading_that_fails_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    stats = Stats()

    def broken() -> Rows:
        raise OSError("no such thing")

    stats.add(broken)
    stats.add(lambda: {"memory": [((), [5])]})
    with caplog.at_level(logging.ERROR):
        assert read(stats)["memory"] == {(): [5]}
        assert read(stats)["memory"] == {(): [5]}
    assert [one.message.partition(";")[2] for one in caplog.records] == [" they are left out from now on"]


# In a gateway

ASK = b'{"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": true}'


def post(body: bytes, path: bytes = b"/v1/chat/completions", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path, size, body)


def test_a_request_is_in_flight_under_its_version_until_it_is_settled() -> None:
    with Gateway(("Hello", HOLD, " world")) as gateway, gateway.connect() as wire:
        wire.send(post(ASK))
        (call,) = gateway.until(lambda: [one for one in gateway.engine.calls if one.held])
        during = read(gateway.stats)
        assert during["version_in_flight"] == {("assistant", "v1"): [1]}
        assert during["in_flight"] == {(): [1]}
        gateway.release(call)
        gateway.idle()
        after = read(gateway.stats)
    assert after["version_in_flight"] == {("assistant", "v1"): [0]}
    assert after["in_flight"] == {(): [0]}
    assert len(gateway.records) == sum(count for (count,) in after["requests"].values()) == 1
    (settled,) = gateway.records
    assert settled.sent is not None
    assert after["overhead"]["assistant", "v1"][-1] == settled.sent // 1000
    assert {field: sum(after[field]["assistant", "v1"][:-1]) for field in ("first_text", "per_token")} == {
        "first_text": 1,
        "per_token": 1,
    }


@pytest.mark.parametrize(
    ("data", "code", "recorded"),
    [
        (b"\x00\x01\x02\r\n\r\n", "invalid_http", False),
        (b"GET * HTTP/1.1\r\nx: %b\r\n\r\n" % (b"y" * 9000), "headers_too_large", False),
        (post(b"", b"/v1/chat/completions\xff"), "invalid_http", False),
        (post(b"", length=10**6), "request_too_large", True),
        (b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "invalid_http", True),
        (post(b"{}"), "invalid_request", True),
    ],
)
def test_a_refusal_is_counted_once(data: bytes, code: str, recorded: bool) -> None:
    with Gateway(header_bytes=8192, body_bytes=4096) as gateway, gateway.connect() as wire:
        wire.send(data)
        assert wire.read_answer().error["code"] == code
        series = read(gateway.stats)
    if recorded:
        assert series["requests"] == {("", "", "refused", code): [1]}
        assert series["http_refusals"] == {}
        assert [one.failure.code for one in gateway.records if one.failure] == [code]
    else:
        assert series["http_refusals"] == {(code,): [1]}
        assert "requests" not in series
        assert gateway.records == []
