"""The metrics page, read by Prometheus' own parser for Python, and line by line by the text format's rules."""

from __future__ import annotations

import math
import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from gateway.journal.record import Failure, Record
from gateway.metrics_app import Totals, make_metrics_app
from gateway.metrics_names import BY_FIELD, METRICS, Report
from gateway.stats import Stats

Labels = dict[str, str]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
WHERE = {"endpoint": "assistant", "version": "v1"}
FULL = Failure("overloaded", "full", 429)
LINE = re.compile(
    r"# HELP [a-z_]+ .+"
    r"|# TYPE [a-z_]+ (?:counter|gauge|histogram)"
    r'|[a-z_]+(?:\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? \d+(?:\.\d+)?'
)
LIVE = ("penstock_workers", "penstock_requests_in_flight", "penstock_version_requests_in_flight")


def read(page: str) -> tuple[Samples, dict[str, Family]]:
    """Samples by name and labels, and the families. Nothing may be there twice, nor under another family's name."""
    assert page.endswith("\n")
    for line in page[:-1].split("\n"):  # that parser is laxer than Prometheus itself
        assert LINE.fullmatch(line), line
    samples: Samples = {}
    families: dict[str, Family] = {}
    for family in text_string_to_metric_families(page):
        assert family.name not in families
        assert family.type != "unknown", family
        families[family.name] = family
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
    for mark in ("# HELP ", "# TYPE "):
        assert page.count(mark) == len(families)
    return samples, families


def at(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def total(samples: Samples, name: str) -> float:
    return sum(value for (one, _), value in samples.items() if one == name)


def done(**fields: Any) -> Record:
    known: dict[str, Any] = {
        "id": "1",
        "at": 1,
        "endpoint": "assistant",
        "version": "v1",
        "outcome": "finished",
        "stream": True,
        "sent": 50_000,
        "first_text": 30_000_000,
        "last_text": 1_400_000_000,
        "ended": 1_500_000_000,
        "chunks": 20,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost": 123,
    }
    return Record(**known | fields)


class Worker:
    """A worker's counters, reported as the pipe carries them."""

    def __init__(self) -> None:
        self.stats = Stats()

    def settle(self, *records: Record) -> Worker:
        for record in records:
            self.stats.settle(record)
        return self

    def report(self) -> Report:
        found: Report = orjson.loads(orjson.dumps(self.stats.to_dict()))
        return found


def report(*records: Record, in_flight: int = 0) -> Report:
    worker = Worker().settle(*records)
    worker.stats.in_flight = in_flight
    for _ in range(in_flight):
        worker.stats.enter("assistant", "v1")
    return worker.report()


# The page


def test_an_empty_page_names_every_metric() -> None:
    samples, families = read(Totals().render())
    assert samples == {("penstock_workers", frozenset()): 0, ("penstock_requests_in_flight", frozenset()): 0}
    assert {name: family.type for name, family in families.items()} == {
        one.name.removesuffix("_total") if one.kind == "counter" else one.name: one.kind for one in METRICS
    }
    assert {family.documentation for family in families.values()} == {one.meaning for one in METRICS}


def test_workers_are_summed() -> None:
    totals = Totals()
    totals.update(0, report(done(), done(), in_flight=3))
    lost = done(endpoint="", version="", outcome="shed", failure=FULL)
    totals.update(1, report(done(cost=None), lost, in_flight=4))
    samples, _ = read(totals.render())
    assert at(samples, "penstock_workers") == 2
    assert at(samples, "penstock_requests_in_flight") == 7
    assert at(samples, "penstock_version_requests_in_flight", **WHERE) == 7
    assert at(samples, "penstock_requests_total", **WHERE, outcome="finished", code="") == 3
    assert at(samples, "penstock_requests_total", endpoint="", version="", outcome="shed", code="overloaded") == 1
    assert at(samples, "penstock_tokens_total", **WHERE, direction="input") == 30
    assert at(samples, "penstock_tokens_total", **WHERE, direction="output") == 60
    assert at(samples, "penstock_unpriced_requests_total", **WHERE) == 1
    assert at(samples, "gen_ai_server_request_duration_seconds_sum", **WHERE, outcome="finished") == 4.5
    assert at(samples, "gen_ai_server_time_to_first_token_seconds_sum", **WHERE) == 0.09
    assert at(samples, "gen_ai_server_time_per_output_token_seconds_count", **WHERE) == 3
    assert at(samples, "penstock_gateway_overhead_seconds_sum", **WHERE) == 0.00015


@pytest.mark.parametrize(
    ("nano", "shown"),
    [(0, "0.000000000"), (1, "0.000000001"), (10**9 + 5, "1.000000005"), (2**63 - 1, "9223372036.854775807")],
)
def test_cost_is_shown_to_the_nano_dollar(nano: int, shown: str) -> None:
    totals = Totals()
    totals.update(0, report(done(cost=nano)))
    assert f'penstock_cost_usd_total{{endpoint="assistant",version="v1"}} {shown}\n' in totals.render()


@pytest.mark.parametrize("metric", [one for one in METRICS if one.edges], ids=lambda one: one.field)
def test_histograms_rise_to_their_count(metric: Any) -> None:
    totals = Totals()
    names = (*metric.labels, "worker") if metric.per_worker else metric.labels
    counts = [place % 3 for place in range(len(metric.edges) + 1)]
    row = [["x"] * len(metric.labels), [*counts, 1_234_567]]
    totals.update(0, {"life": 1, metric.field: [row]})
    if not metric.per_worker:
        totals.update(1, {"life": 2, metric.field: [row]})
    times = 1 if metric.per_worker else 2
    _, families = read(totals.render())
    samples = families[metric.name].samples
    buckets = [one for one in samples if one.name == metric.name + "_bucket"]
    assert [float(one.labels["le"]) for one in buckets] == [*(edge / 1e9 for edge in metric.edges), math.inf]
    assert [set(one.labels) for one in buckets] == [{*names, "le"}] * len(buckets)
    assert [one.value for one in buckets] == [times * sum(counts[: place + 1]) for place in range(len(counts))]
    rest = {one.name: one.value for one in samples if one not in buckets}
    assert rest == {metric.name + "_sum": times * 1.234567, metric.name + "_count": times * sum(counts)}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4, unique=True))
@settings(max_examples=50, deadline=None)
def test_any_label_comes_back_whole(names: list[str]) -> None:
    totals = Totals()
    totals.update(0, report(*(done(endpoint=name, version="v1") for name in names)))
    samples, _ = read(totals.render())
    assert sorted(dict(labels)["endpoint"] for one, labels in samples if one == "penstock_cost_usd_total") == sorted(
        names
    )


@pytest.mark.parametrize("name", ['or"g\\x', "a\nb", "\\n", '"', "\\", "{x=1} 2 # EOF", "ü", "a,b"])
def test_labels_are_escaped(name: str) -> None:
    totals = Totals()
    totals.update(0, report(done(endpoint=name)))
    samples, _ = read(totals.render())
    assert {dict(labels).get("endpoint", name) for _, labels in samples} == {name}


# The sums


def test_a_worker_that_ended_keeps_its_counts_and_not_its_requests_in_flight() -> None:
    totals = Totals()
    totals.update(0, report(done(), done(), in_flight=5))
    totals.update(1, report(done(), in_flight=1))
    before, _ = read(totals.render())
    totals.retire(0)
    totals.retire(0)
    totals.retire(7)
    after, _ = read(totals.render())
    assert [total(after, name) for name in LIVE] == [1, 1, 1]
    kept = {key: value for key, value in before.items() if key[0] not in LIVE}
    assert {key: value for key, value in after.items() if key[0] not in LIVE} == kept


def test_no_counter_runs_backwards_over_restarts() -> None:
    totals = Totals()
    last = 0.0
    for turn in range(4):
        worker = Worker()
        for count in range(1, 3):
            totals.update(0, worker.settle(done()).report())
            now = total(read(totals.render())[0], "penstock_requests_total")
            assert now == turn * 2 + count
            assert now >= last
            last = now
        totals.retire(0)
    totals.update(0, report())  # the new worker has counted nothing yet
    assert totals.total("requests") == last


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (["1:5", "2:1"], 6),  # a successor whose predecessor's end nobody told
        (["1:5", "retire", "1:5"], 5),  # only its link was down
        (["1:5", "retire", "1:6", "retire", "2:1"], 7),
        (["1:5", "retire", "2:1", "1:5"], 6),  # the last word of the dead comes late
        (["1:5", "2:1", "1:5", "2:2"], 7),
        (["1:5", "retire", "2:1", "retire", "1:5"], 6),
        (["1:5", "retire", "2:1", "retire", "2:3"], 8),
        (["1:1", "retire", "2:1", "retire", "3:1", "retire", "4:1"], 4),
    ],
)
def test_each_life_is_counted_once(what: list[str], expected: int) -> None:
    totals = Totals()
    for step in what:
        if step == "retire":
            totals.retire(3)
        else:
            life, count = map(int, step.split(":"))
            totals.update(3, {"life": life, "http_refusals": [[["x"], [count]]]})
    assert totals.total("http_refusals") == expected


def test_figures_of_each_worker_stay_apart() -> None:
    totals = Totals()
    for worker, lag in ((1, 5), (2, 7)):
        figures = {"life": worker, "journal_lag": [[[], [lag]]], "cpu": [[[], [lag]]]}
        totals.update(worker, figures)
    samples, _ = read(totals.render())
    assert at(samples, "penstock_journal_lag_seconds", worker="1") == 5e-9
    assert at(samples, "penstock_journal_lag_seconds", worker="2") == 7e-9
    totals.retire(1)
    totals.update(1, {"life": 3, "cpu": [[[], [10]]]})
    samples, _ = read(totals.render())
    assert ("penstock_journal_lag_seconds", frozenset({("worker", "1")})) not in samples
    assert at(samples, "penstock_worker_cpu_seconds_total", worker="1") == 15e-9
    assert at(samples, "penstock_worker_cpu_seconds_total", worker="2") == 7e-9


def test_rendering_changes_nothing() -> None:
    totals = Totals()
    for worker in range(3):
        totals.update(worker, report(done(), in_flight=1))
        totals.retire(1)
    assert totals.render() == totals.render()


# The table


def test_every_family_is_well_named() -> None:
    for attribute in ("field", "name"):
        assert len({getattr(one, attribute) for one in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert bool(metric.edges) == (metric.kind == "histogram"), metric
        assert list(metric.edges) == sorted(set(metric.edges)), metric
        assert metric.unit not in ("seconds", "bytes") or metric.unit in metric.name.removesuffix("_total"), metric
        assert not metric.convention or metric.name == metric.convention.replace(".", "_") + "_seconds", metric
        assert metric.digits == 6 or not metric.edges, metric  # Histogram.figures gives microseconds


def test_no_label_is_a_caller() -> None:
    known = {"endpoint", "version", "outcome", "code", "direction", "replica", "state", "event"}
    assert {label for metric in METRICS for label in metric.labels} == known


@pytest.mark.parametrize(
    ("field", "edges"),
    [
        ("first_text", [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]),
        ("duration", [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]),
    ],
)
def test_edges_are_the_conventions(field: str, edges: list[float]) -> None:
    assert [edge / 1e9 for edge in BY_FIELD[field].edges] == edges


# The port


def test_the_route() -> None:
    totals = Totals()
    totals.update(0, report(done()))
    with TestClient(make_metrics_app(totals)) as client:
        answer = client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.text == totals.render()
        assert client.get("/").status_code == 404
        assert client.post("/metrics").status_code == 405
