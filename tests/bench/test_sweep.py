"""The order of the run, and who is left out of it; then one short run against a real Penstock and a real Triton."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.bench import rows, sweep
from loadtests.bench.contender import Running, Upstreams
from loadtests.bench.penstock import Penstock
from loadtests.bench.question import Question
from loadtests.bench.results import DIRECT, Figure, Report
from loadtests.bench.rows import Row, figure
from loadtests.bench.sweep import Plan, obtain
from loadtests.bench.upstreams import upstreams

UNARY = Row("unary", "whole answers", Question("unary", 8), 2, 4, requests=20)
STEP = Row("step", "streams", Question("step", 8), 4, 4, direct=True, requests=12)
GROWTH = Row("growth", "memory", Question("unary", 8), 2, 0, once=True)


class Fake:
    """A contender that does as it is told, and remembers."""

    speaks = "openai"
    quick = True

    def __init__(self, name: str, *, missing: str = "", fails: str = "") -> None:
        self.name = name
        self.missing = missing
        self.fails = fails
        self.stopped = 0

    def obtain(self, say: Callable[[str], None]) -> str:
        return self.missing

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        assert folder.is_dir()
        if self.fails:
            raise RuntimeError(self.fails)
        return Running("http://127.0.0.1:1/v1", "bench", 0, {}, self._stop)

    def _stop(self) -> None:
        self.stopped += 1


def names(plan: Plan, *contenders: Fake) -> list[str]:
    return [f"{repetition} {row.name} {one.name}" for repetition, row, one in plan.cells(contenders)]


def test_contenders_take_turns_within_a_row_and_rows_within_a_repetition() -> None:
    plan = Plan([UNARY, STEP, GROWTH], 2, 1.0)
    assert names(plan, Fake("a"), Fake("b"), Fake(DIRECT)) == [
        *["0 unary a", "0 unary b", "0 step a", "0 step b", f"0 step {DIRECT}", "0 growth a", "0 growth b"],
        *["1 unary a", "1 unary b", "1 step a", "1 step b", f"1 step {DIRECT}"],
    ]


def test_what_cannot_be_had_is_left_out_with_the_reason() -> None:
    report = Report()
    found = obtain([Fake("a"), Fake("b", missing="there is no node")], report, lambda _: None)
    assert [one.name for one in found] == ["a"]
    assert report.skipped == {"b": "there is no node"}


def test_who_fails_is_left_out_and_everyone_who_started_is_stopped_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def measure(row: Row, name: str, running: Running, repetition: int, seconds: float) -> Figure:
        asked.append(f"{repetition} {row.name} {name}")
        if name == "dies" and row is STEP:
            raise RuntimeError("no figures")
        return Figure(row.name, name, repetition, work=1, cpu_us=1.0)

    monkeypatch.setattr(sweep, "measure", measure)
    contenders = [Fake("lives"), Fake("dies"), Fake("never", fails="port taken")]
    report, heard = Report(), []
    plan = Plan([UNARY, STEP], 2, 1.0)
    sweep.sweep(contenders, plan, Upstreams("", ""), tmp_path, report, lambda _: None, heard.append)
    assert asked == ["0 unary lives", "0 unary dies", "0 step lives", "0 step dies", "1 unary lives", "1 step lives"]
    assert report.skipped == {
        "never": "did not start: port taken",
        "dies": "left out from step of repetition 1 on: no figures",
    }
    assert [one.stopped for one in contenders] == [1, 1, 0]
    assert len(heard) == len(plan.cells(contenders))  # the progress reaches its end
    assert len(report.figures) == 5


@pytest.mark.parametrize(("row", "growth"), [(UNARY, None), (GROWTH, 8.0)])
def test_growth_is_told_per_100_000_requests_and_only_where_it_is_the_point(row: Row, growth: float | None) -> None:
    measured = {"requests": 25_000, "work": 25_000, "seconds": 1.5, "growth_mib": 2.0, "errors": 1}
    assert figure(row, "a", 0, measured) == Figure(
        row.name, "a", 0, work=25_000, seconds=1.5, errors=1, growth_mib=growth
    )


def test_a_load_client_without_figures_says_why() -> None:
    nobody = Running("http://127.0.0.1:1/v1", "bench", 0, {}, lambda: None)
    with pytest.raises(RuntimeError, match="unary: the load client gave no figures: ConnectionRefusedError"):
        rows.measure(UNARY, "a", nobody, 0, 1.0)


def test_penstock_is_measured(tmp_path: Path) -> None:
    penstock, report = Penstock(), Report()
    assert penstock.obtain(lambda _: None) == ""
    with upstreams(tmp_path, lambda _: None, openai=False) as addresses:
        sweep.sweep(
            [penstock], Plan([UNARY, STEP], 1, 60.0), addresses, tmp_path, report, lambda _: None, lambda _: None
        )
    assert report.skipped == {}
    assert [(one.row, one.work, one.errors, one.wrong) for one in report.figures] == [
        ("unary", 20, 0, 0),
        ("step", 12 * 8, 0, 0),
    ], report.problems()
    for one in report.figures:
        assert one.cpu_us
        assert one.peak_mib
        assert one.worker_mib
        assert one.p50_ms
        assert one.p99_ms
    assert report.figures[1].ttft_ms
    assert list((tmp_path / "penstock" / "state" / "journal").iterdir()), "it ran without its journal"
