"""The request path costs no more than the record says; see docs/performance.md for what the figures are worth."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests.cost.meter import Meter
from tests.cost.path import measure, run_stream, run_unary
from tests.cost.record import PYTHON, read
from tests.cost.rig import Rig

MARGIN = 0.02
"""A path that grows by more must update the record, in the commit that says what the growth buys."""


def test_the_path_costs_what_the_record_says() -> None:
    recorded = read()
    if not recorded:
        pytest.skip(f"no record for Python {PYTHON}; it is held where the record was made")
    costs = measure()
    grown = {
        f"{name}.{field}": (before, now)
        for name, cost in costs.items()
        for field, before, now in zip(cost._fields, recorded[name], cost, strict=True)
        if now > before * (1 + MARGIN)
    }
    assert not grown, "the path became dearer (before, now); mend it, or `make cost` and say why"


def test_measured_twice_it_is_the_same() -> None:
    assert measure() == measure()


def test_the_meter_counts_what_is_there() -> None:
    def work(times: int) -> Meter:
        meter = Meter()
        with meter:
            for _ in range(times):
                len("")
        return meter

    one, eleven = work(1).cost, work(11).cost
    assert eleven.c_calls - one.c_calls == 10


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_of_a_request_waits_for_the_collector(tmp_path: Path, stream: bool) -> None:
    with Rig(tmp_path) as rig:
        for _ in range(20):
            run_stream(rig, Meter(), 3) if stream else run_unary(rig, Meter())
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                run_stream(rig, Meter(), 3) if stream else run_unary(rig, Meter())
            assert gc.collect() == 0
        finally:
            gc.enable()
