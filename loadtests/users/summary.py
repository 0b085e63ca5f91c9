"""What clients saw, in milliseconds with decimals: Locust's own table on a terminal shows whole ones."""

from __future__ import annotations

import logging
from typing import Any

from locust.stats import calculate_response_time_percentile, diff_response_time_dicts

from loadtests.users.rows import METRICS, TTFT

_SHARES = (0.5, 0.95, 0.99, 1.0)
_HEAD = f"{'':14}{'':6}{'count':>9}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}"
# Locust's console logger prints to where its own tables go.
_console = logging.getLogger("locust.stats_logger")


class Summary:
    """The table of all that has come since the last one was taken; of the whole run for a fresh one."""

    def __init__(self, stats: Any) -> None:
        self._stats = stats
        self._before: dict[tuple[str, str], tuple[dict[float, int], int, int]] = {}

    def take(self, seconds: float | None = None) -> list[str]:
        """The lines, and from here on counts anew. `seconds` is the time they span; None asks Locust."""
        lines = [_HEAD]
        rates = []
        for key in sorted(self._stats.entries, key=_order):
            entry = self._stats.entries[key]
            times, size, failed = self._before.get(key, ({}, 0, 0))
            new = diff_response_time_dicts(entry.response_times, times)
            self._before[key] = (dict(entry.response_times), entry.total_content_length, entry.num_failures)
            if not (count := sum(new.values())):
                continue
            name, kind = key
            marks = "".join(f"{calculate_response_time_percentile(new, count, share):>10.7g}" for share in _SHARES)
            wrong = entry.num_failures - failed
            lines.append(f"{name:14}{kind:6}{count:>9}{marks}" + (f"   {wrong} failed" if wrong else ""))
            if kind == TTFT and (tokens := entry.total_content_length - size):
                span = seconds or (self._stats.last_request_timestamp or 0) - self._stats.start_time
                rates.append(f"{name} {tokens / max(span, 1e-9):.1f}")
        if rates:
            lines.append("tokens/s: " + ", ".join(rates))
        return lines


def show(title: str, lines: list[str]) -> None:
    """Prints a table where Locust prints its own."""
    for line in ("", title, *lines, ""):
        _console.info(line)


def _order(key: tuple[str, str]) -> tuple[str, int]:
    name, kind = key
    return name, METRICS.index(kind) if kind in METRICS else -1
