"""The metrics page, read strictly by the text format's own rules."""

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.core.answer import Usage
from gateway.metrics_app import Totals, make_metrics_app
from gateway.routing.version import Version
from gateway.stats import EDGES, Stats

SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+|\+Inf)'
)
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"')
ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(page: str) -> tuple[Series, dict[str, str]]:
    """Samples by name and labels, and the kinds of the families. Every line must be one the format knows."""
    samples: Series = {}
    kinds: dict[str, str] = {}
    assert page.endswith("\n")
    for line in page[:-1].split("\n"):
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            kinds[name] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        family = re.sub(r"_(bucket|sum|count)$", "", match[1]) if match[1] not in kinds else match[1]
        assert list(kinds)[-1] == family, f"{line} is not under its TYPE"
        labels = tuple(
            (key, re.sub(r'\\[n"\\]', lambda m: ESCAPES[m[0]], value)) for key, value in LABEL.findall(match[2] or "")
        )
        assert (match[1], labels) not in samples, f"{line} is there twice"
        samples[match[1], labels] = float(match[3])
    return samples, kinds


def worker(*settled: tuple[Any, ...], in_flight: int = 0) -> dict[str, Any]:
    stats = Stats()
    stats.in_flight = in_flight + len(settled)
    for one in settled:
        stats.settle(*one)
    return stats.to_dict()


V1 = Version("assistant", "v1", "m")
ODD = Version('or"g\\x', "v\n1", "m")
DONE = (V1, "finished", Usage(10, 20), 0.03, 1.5)


def total(samples: Series, name: str) -> float:
    return sum(value for (one, _), value in samples.items() if one == name)


def test_an_empty_page() -> None:
    samples, kinds = read(Totals().render())
    assert samples == {("penstock_workers", ()): 0, ("penstock_requests_in_flight", ()): 0}
    assert kinds == {
        "penstock_workers": "gauge",
        "penstock_requests_in_flight": "gauge",
        "penstock_requests_total": "counter",
        "penstock_tokens_total": "counter",
        "gen_ai_server_time_to_first_token_seconds": "histogram",
        "gen_ai_server_request_duration_seconds": "histogram",
    }


def test_workers_are_summed() -> None:
    totals = Totals()
    totals.update(0, worker(DONE, DONE, in_flight=3))
    totals.update(1, worker(DONE, (None, "overloaded", Usage(None, None), None, 0.0), in_flight=4))
    samples, _ = read(totals.render())
    where = (("endpoint", "assistant"), ("version", "v1"))
    assert samples["penstock_workers", ()] == 2
    assert samples["penstock_requests_in_flight", ()] == 7
    assert samples["penstock_requests_total", (*where, ("outcome", "finished"))] == 3
    nowhere = (("endpoint", ""), ("version", ""), ("outcome", "overloaded"))
    assert samples["penstock_requests_total", nowhere] == 1
    assert samples["penstock_tokens_total", (*where, ("direction", "input"))] == 30
    assert samples["penstock_tokens_total", (*where, ("direction", "output"))] == 60
    assert samples["gen_ai_server_request_duration_seconds_sum", where] == pytest.approx(4.5)


def test_histograms_rise_to_their_count() -> None:
    totals = Totals()
    totals.update(0, worker(*((V1, "finished", Usage(1, 1), at / 7, at / 3) for at in range(300))))
    totals.update(1, worker(*((V1, "finished", Usage(1, 1), at / 70, at / 3000) for at in range(300))))
    samples, _ = read(totals.render())
    where = (("endpoint", "assistant"), ("version", "v1"))
    for name in ("gen_ai_server_time_to_first_token_seconds", "gen_ai_server_request_duration_seconds"):
        buckets = [(float(labels[-1][1]), value) for (one, labels), value in samples.items() if one == name + "_bucket"]
        assert [edge for edge, _ in buckets] == [*EDGES, float("inf")]
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert counts[0] < counts[5] < counts[-1] == samples[name + "_count", where] == 600


def test_labels_are_escaped() -> None:
    totals = Totals()
    totals.update(0, worker((ODD, "finished", Usage(1, 1), None, 0.1)))
    samples, _ = read(totals.render())
    assert {dict(labels)["endpoint"] for _, labels in samples if labels} == {'or"g\\x'}
    assert {dict(labels)["version"] for _, labels in samples if labels} == {"v\n1"}


def test_a_worker_that_ended_keeps_its_counts_and_not_its_requests_in_flight() -> None:
    totals = Totals()
    totals.update(0, worker(DONE, DONE, in_flight=5))
    totals.update(1, worker(DONE, in_flight=1))
    before, _ = read(totals.render())
    totals.retire(0)
    totals.retire(0)
    totals.retire(7)
    after, _ = read(totals.render())
    assert (after["penstock_workers", ()], after["penstock_requests_in_flight", ()]) == (1, 1)
    gauges = {("penstock_workers", ()), ("penstock_requests_in_flight", ())}
    assert {key: value for key, value in before.items() if key not in gauges} == {
        key: value for key, value in after.items() if key not in gauges
    }


def test_no_counter_runs_backwards_over_restarts() -> None:
    totals = Totals()
    last = 0.0
    for turn in range(4):
        for reports in ([DONE], [DONE, DONE]):
            totals.update(0, worker(*reports))
            now = total(read(totals.render())[0], "penstock_requests_total")
            assert now == turn * 2 + len(reports)
            assert now >= last
            last = now
        totals.retire(0)
    totals.update(0, worker())  # the new worker has counted nothing yet
    assert total(read(totals.render())[0], "penstock_requests_total") == last


def test_the_route() -> None:
    totals = Totals()
    totals.update(0, worker(DONE))
    with TestClient(make_metrics_app(totals)) as client:
        answer = client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.text == totals.render()
        assert client.get("/").status_code == 404
        assert client.post("/metrics").status_code == 405
