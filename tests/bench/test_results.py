"""Medians, ranges and ratios; a report that comes back from its file as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.results import Figure, Report, Spread


def report(**cells: list[float]) -> Report:
    """Cells as row__contender, with the CPU of each repetition."""
    made = Report()
    for cell, values in cells.items():
        row, contender = cell.split("__")
        for repetition, value in enumerate(values):
            made.figures.append(Figure(row, contender.replace("_", "-"), repetition, work=10, cpu_us=value))
    return made


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([3.0], Spread(3.0, 3.0, 3.0)),
        ([9.0, 1.0, 2.0], Spread(2.0, 1.0, 9.0)),
        ([4.0, 1.0, 2.0, 100.0], Spread(3.0, 1.0, 100.0)),
    ],
)
def test_medians_and_ranges(values: list[float], spread: Spread) -> None:
    assert report(unary_c16__penstock=values).medians("unary_c16", "penstock") == spread


def test_what_was_not_measured_has_no_median_and_no_ratio() -> None:
    made = report(unary_c16__penstock=[1.0], stream_burst_c16__nginx=[1.0])
    made.figures.append(Figure("unary_c1", "direct-triton", 0, work=10, p50_ms=1.0))
    assert made.medians("unary_c16", "nginx") is None
    assert made.medians("unary_c16", "penstock", "ttft_ms") is None
    assert made.ratios() == {}


def test_ratios_are_of_medians_and_below_one_where_ours_is_cheaper() -> None:
    made = report(
        unary_c16__penstock=[30.0, 90.0, 10.0], unary_c16__vllm_router=[40.0, 60.0, 61.0], unary_c16__nginx=[12.0]
    )
    assert made.ratios() == {"unary_c16_vs_vllm_router": 0.5, "unary_c16_vs_nginx": 2.5}


def test_ours_adds_to_triton_and_a_peer_to_the_mock() -> None:
    made = Report()
    for name, p50 in (("penstock", 0.5), ("direct-triton", 0.375), ("nginx", 0.25), ("direct", 0.125)):
        made.figures.append(Figure("unary_c1", name, 0, work=10, p50_ms=p50, p99_ms=4 * p50))
    assert made.added("unary_c1", "nginx", "p50_ms") == 0.125
    assert made.ratios() == {"added_p50_ms": 0.125, "added_p99_ms": 0.5}


def test_memory_is_compared_at_its_peak_over_the_rows() -> None:
    made = Report()
    for name, row, whole, worker in (
        ("penstock", "a", 100.0, 40.0),
        ("penstock", "b", 120.0, 41.0),
        ("litellm", "a", 400.0, 400.0),
        ("litellm", "b", 480.0, 410.0),
    ):
        made.figures.append(Figure(row, name, 0, work=1, peak_mib=whole, worker_mib=worker))
    assert made.ratios() == {"peak_memory_vs_litellm": 0.25, "worker_memory_vs_litellm": 0.1}


def test_problems_are_counted_and_told() -> None:
    made = Report(figures=[Figure("a", "nginx", 0, work=9, errors=2, wrong=1, samples=["status 502"])])
    assert made.wrong() == 3
    assert made.problems() == ["nginx, a: 2 errors, 1 wrong; status 502"]


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = report(unary_c16__penstock=[30.0], unary_c16__nginx=[12.0])
    made.facts, made.skipped = {"cores": 2}, {"portkey": "there is no node"}
    path = tmp_path / "new" / "report.json"
    made.write(path)
    assert Report.read(path) == made


def test_fields_of_another_time_are_refused(tmp_path: Path) -> None:
    made: dict[str, Any] = {"facts": {}, "skipped": {}, "figures": [{"row": "a", "colour": "red"}]}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(made))
    with pytest.raises(TypeError, match="colour"):
        Report.read(path)
