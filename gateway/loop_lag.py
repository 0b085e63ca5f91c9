"""How late an event loop is: a timer every 100 ms, and by how much it came too late.

What holds the loop up holds every stream of the worker up, so this is the first figure to look at when latencies grow
and the engine's do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.histogram import Histogram
from gateway.metrics_names import BY_FIELD, SECOND, Rows

EVERY_S = 0.1
WINDOW_NS = 30 * SECOND


class LoopLag:
    """The lag of one loop, from `start` to `stop`. `clock` gives monotonic nanoseconds.

    Not the loop's own clock: uvloop's has milliseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._loop = loop
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._window_ends = 0
        self._worst = self._worst_before = 0
        self.histogram = Histogram(BY_FIELD["loop_lag"].edges)

    def __repr__(self) -> str:
        return f"<LoopLag worst={self.worst / 1e6:.1f}ms {self.histogram!r}>"

    @property
    def worst(self) -> int:
        """Nanoseconds: the worst in this window of 30 s and the one before it, so that no scrape misses it."""
        return max(self._worst, self._worst_before)

    def start(self) -> None:
        """Begin to measure."""
        self._window_ends = self._clock() + WINDOW_NS
        self._wait()

    def stop(self) -> None:
        """Measure no more; the figures stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def rows(self) -> Rows:
        """The reading for a report."""
        return {"loop_lag": [((), self.histogram.figures())], "loop_lag_max": [((), [self.worst])]}

    def _wait(self) -> None:
        self._due = self._clock() + round(EVERY_S * SECOND)
        self._timer = self._loop.call_later(EVERY_S, self._tick)

    def _tick(self) -> None:
        now = self._clock()
        lag = max(0, now - self._due)
        self.histogram.observe(lag)
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_NS
            self._worst_before, self._worst = self._worst, 0
        self._worst = max(self._worst, lag)
        self._wait()
