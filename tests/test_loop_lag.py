"""Lag of an event loop, with a loop and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from gateway.histogram import Histogram
from gateway.loop_lag import LoopLag
from gateway.metrics_names import BY_FIELD

EDGES = BY_FIELD["loop_lag"].edges
MS = 1_000_000


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """One timer at a time, which fires as late as `tick` says."""

    def __init__(self) -> None:
        self.now = 5_000_000_000_000
        self.delays: list[float] = []
        self.timer = Timer()
        self._callback: Callable[[], None] | None = None

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.delays.append(delay)
        self.timer, self._callback = Timer(), callback
        return self.timer

    def tick(self, late_ms: float) -> None:
        callback, self._callback = self._callback, None
        assert callback is not None
        assert not self.timer.cancelled
        self.now += round((self.delays[-1] * 1000 + late_ms) * MS)
        callback()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def lag(loop: Loop) -> LoopLag:
    made = LoopLag(loop, clock=lambda: loop.now)  # type: ignore[arg-type]
    made.start()
    return made


def test_what_comes_late_is_counted_by_how_much(loop: Loop, lag: LoopLag) -> None:
    for late in (0, 1, 1.5, 2.5, 300, 6000):
        loop.tick(late)
    expected = [0] * (len(EDGES) + 1)
    for bucket in (0, 0, 1, 1, EDGES.index(500 * MS), len(EDGES)):
        expected[bucket] += 1
    assert lag.rows() == {"loop_lag": [((), [*expected, 6_305_000])], "loop_lag_max": [((), [6000 * MS])]}


def test_a_late_tick_is_not_made_up_for(loop: Loop, lag: LoopLag) -> None:
    loop.tick(950)
    loop.tick(0)
    assert lag.histogram.sum == 950 * MS
    assert loop.delays == [0.1] * 3


def test_an_early_timer_is_no_lag(loop: Loop, lag: LoopLag) -> None:
    loop.tick(-1)
    assert (lag.histogram.sum, lag.worst) == (0, 0)


def test_the_worst_is_remembered_for_a_window_and_forgotten_after_two(loop: Loop, lag: LoopLag) -> None:
    loop.tick(700)
    seen = []
    for _ in range(650):
        loop.tick(0)
        seen.append(lag.worst)
    assert seen[:299] == [700 * MS] * 299  # thirty seconds at least
    assert seen[-1] == 0
    assert seen == sorted(seen, reverse=True)


def test_the_worst_belongs_to_the_window_in_which_it_is_seen(loop: Loop, lag: LoopLag) -> None:
    loop.tick(40_000)  # longer than a window
    loop.tick(20_000)
    assert lag.worst == 40_000 * MS
    loop.tick(40_000)
    loop.tick(40_000)
    assert lag.worst == 40_000 * MS


def test_after_stop_nothing_is_measured(loop: Loop, lag: LoopLag) -> None:
    loop.tick(5)
    lag.stop()
    lag.stop()
    assert loop.timer.cancelled
    assert lag.worst == 5 * MS


class Awaited(Histogram):
    """Says when it has counted three."""

    def __init__(self) -> None:
        super().__init__(EDGES)
        self.three = asyncio.Event()

    def observe(self, nanoseconds: int) -> None:
        super().observe(nanoseconds)
        if sum(self.counts) == 3:
            self.three.set()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_on_a_real_loop(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def measure() -> LoopLag:
        lag = LoopLag(asyncio.get_running_loop())
        lag.histogram = counted = Awaited()
        lag.start()
        await asyncio.wait_for(counted.three.wait(), 60)
        lag.stop()
        return lag

    with asyncio.Runner(loop_factory=make_loop) as runner:
        lag = runner.run(measure())
    assert sum(lag.histogram.counts) == 3
    assert lag.histogram.sum / 3 <= lag.worst <= lag.histogram.sum
