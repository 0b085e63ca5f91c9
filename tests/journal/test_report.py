"""The figures against a plain computation that keeps everything."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.journal.histogram import ERROR, LARGEST, LogHistogram
from gateway.journal.record import Record
from gateway.journal.report import SHARES, report
from tests.journal.records import AT, MS, make_record, write_segment


def exact(values: list[float], share: float) -> float | None:
    """The smallest value that `share` of all do not exceed."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1] if values else None


@settings(deadline=None)
@given(st.lists(st.floats(0, LARGEST) | st.integers(0, LARGEST), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_within_two_percent(values: list[float], share: float) -> None:
    histogram = LogHistogram()
    for value in values:
        histogram.add(value)
    true, given_ = exact(values, share), histogram.quantile(share)
    assert true is not None
    assert given_ is not None
    if true < 1:
        assert given_ == 0
    else:
        assert abs(given_ - true) <= ERROR * true * (1 + 1e-9)


@pytest.mark.parametrize("edge", range(0, 860, 7))
def test_edges_of_buckets(edge: int) -> None:
    base = (1 + ERROR) / (1 - ERROR)
    for value in (base**edge, math.nextafter(base**edge, 0), math.nextafter(base**edge, math.inf)):
        if 1 <= value <= LARGEST:
            histogram = LogHistogram()
            histogram.add(value)
            assert histogram.quantile(0.5) == pytest.approx(value, rel=ERROR * (1 + 1e-9))


def test_the_ends_of_the_scale() -> None:
    histogram = LogHistogram()
    assert histogram.quantile(0.5) is None
    histogram.add(LARGEST * 1000)
    assert histogram.quantile(1) == pytest.approx(LARGEST, rel=0.05)
    histogram.add(0)
    assert histogram.quantile(0) == 0
    assert histogram.quantile(0.5) == 0


maybe = st.none() | st.integers(0, 10**11)
lines = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(["finished", "failed", "refused", "cancelled", "abandoned", "shed"]),
        "where": st.sampled_from([("assistant", "v1"), ("assistant", "v2"), ("other", "v1"), ("", "")]),
        "prompt_tokens": st.none() | st.integers(0, 10**6),
        "completion_tokens": st.none() | st.integers(0, 10**6),
        "first_text": maybe,
        "stream": st.booleans(),
        "chunks": st.integers(0, 3),
        "stream_ns": maybe,
        "ended": st.integers(0, 10**13),
        "cost": st.none() | st.integers(0, 10**15),
    }
)


def record_of(number: int, line: dict[str, Any]) -> Record:
    fields = {name: value for name, value in line.items() if name not in ("where", "stream_ns")}
    first, stream = line["first_text"], line["stream_ns"]
    endpoint, version = line["where"]
    last = first + stream if first is not None and stream is not None else None
    return make_record(number, endpoint=endpoint, version=version, last_text=last, **fields)


@settings(deadline=None, max_examples=60)
@given(st.lists(lines, max_size=40))
def test_figures_are_those_of_a_plain_computation(given_lines: list[dict[str, Any]]) -> None:
    records = [record_of(number, line) for number, line in enumerate(given_lines)]
    with TemporaryDirectory() as name:
        write_segment(Path(name), records[::2], worker=0)
        write_segment(Path(name), records[1::2], worker=1)
        made = report(Path(name)).to_dict()
    assert made["records"] == len(records)
    assert made["first"] == (records[0].at if records else None)
    assert made["last"] == (records[-1].at if records else None)
    rows = {(row["endpoint"], row["version"]): row for row in made["versions"]}
    assert set(rows) == {(record.endpoint, record.version) for record in records}
    for (endpoint, version), row in rows.items():
        mine = [record for record in records if (record.endpoint, record.version) == (endpoint, version)]
        costs = [record.cost for record in mine if record.cost is not None]
        assert row["requests"] == len(mine) == sum(row["outcomes"].values())
        for outcome, count in row["outcomes"].items():
            assert count == sum(record.outcome == outcome for record in mine)
        assert row["prompt_tokens"] == sum(record.prompt_tokens or 0 for record in mine)
        assert row["completion_tokens"] == sum(record.completion_tokens or 0 for record in mine)
        assert row["cost_nano_usd"] == (sum(costs) if costs else None)
        assert row["priced"] == len(costs)
        of_endpoint = sum(record.endpoint == endpoint for record in records)
        assert row["share"] == (pytest.approx(len(mine) / of_endpoint) if version else None)
        latencies = {
            "ttft_ms": [r.first_text for r in mine if r.stream and r.first_text is not None],
            "tpot_ms": [r.per_token for r in mine if r.stream and r.per_token is not None],
            "total_ms": [record.ended for record in mine if record.outcome == "finished"],
        }
        for heading, values in latencies.items():
            for label, share in SHARES:
                true = exact(values, share)
                if true is None:
                    assert row[heading][label] is None
                else:
                    assert row[heading][label] == pytest.approx(true / MS, abs=0.021 * true / MS + 2e-4)


def test_since_leaves_out_what_ended_before(tmp_path: Path) -> None:
    write_segment(tmp_path, [make_record(number, ended=10 * MS) for number in range(100)])
    assert report(tmp_path, since=AT + 10 * MS).records == 100
    assert report(tmp_path, since=AT + 60 * MS).records == 50
    assert report(tmp_path, since=AT + 110 * MS).records == 0


def test_progress_is_told_in_bytes_of_all_segments(tmp_path: Path) -> None:
    sizes = [
        write_segment(tmp_path, [make_record(n) for n in range(3)], start=AT // 1000 + m).stat().st_size
        for m in range(3)
    ]
    heard: list[int] = []
    report(tmp_path, seen=heard.append)
    assert [behind - 16 for behind in heard] == [0, sizes[0], sizes[0] + sizes[1]]
