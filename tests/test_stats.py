"""Counters of a worker."""

import pytest

from gateway.core.answer import Usage
from gateway.routing.version import Version
from gateway.stats import EDGES, Histogram, Stats

V1, V2 = Version("e", "v1", "m"), Version("e", "v2", "m")


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (0.005, 0), (0.0051, 1), (0.01, 1), (1.0, 7), (60.0, 12), (60.1, 13), (1e9, 13)],
)
def test_a_bucket_holds_its_upper_edge(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.counts == [int(at == bucket) for at in range(len(EDGES) + 1)]
    assert histogram.sum == seconds


def test_edges_rise() -> None:
    assert list(EDGES) == sorted(set(EDGES))


def test_settlements_add_up() -> None:
    stats = Stats()
    stats.in_flight = 5
    stats.settle(V1, "finished", Usage(3, 4), 0.02, 0.3)
    stats.settle(V1, "finished", Usage(5, 6), None, 0.3)
    stats.settle(V2, "timeout", Usage(None, 7), 0.02, 0.3)
    stats.settle(None, "overloaded", Usage(0, 0), None, 0.0)
    assert stats.in_flight == 1
    assert stats.requests == {("e", "v1", "finished"): 2, ("e", "v2", "timeout"): 1, ("", "", "overloaded"): 1}
    assert stats.tokens == {("e", "v1", "input"): 8, ("e", "v1", "output"): 10, ("e", "v2", "output"): 7}
    assert {where: sum(one.counts) for where, one in stats.first_text.items()} == {("e", "v1"): 1, ("e", "v2"): 1}
    assert {where: sum(one.counts) for where, one in stats.duration.items()} == {
        ("e", "v1"): 2,
        ("e", "v2"): 1,
        ("", ""): 1,
    }


def test_what_is_reported() -> None:
    stats = Stats()
    stats.in_flight = 1
    stats.settle(V1, "finished", Usage(3, 4), 0.02, 0.3)
    report = stats.to_dict()
    assert report["in_flight"] == 0
    assert report["requests"] == [["e", "v1", "finished", 1]]
    assert sorted(report["tokens"]) == [["e", "v1", "input", 3], ["e", "v1", "output", 4]]
    ((*where, counts, seconds),) = report["duration"]
    assert (where, sum(counts), seconds) == (["e", "v1"], 1, 0.3)
    assert report["first_text"][0][2][2] == 1
