"""The rows of Locust's table: one per kind of request, and for streams TTFT, TPOT and gap as rows of their own.

The rows of metrics are written into their entries of the statistics and not fired as requests: the row
"Aggregated", the request rate and the exit code go on counting replies and nothing else. Entries travel from
Locust's worker processes to its master like all others.

A row TTFT carries the answer's tokens where others have bytes, for tokens per second: Locust has no other place
for a sum that its master adds up.
"""

from __future__ import annotations

import time
from typing import Any

import locust.stats
from locust.exception import CatchResponseError

from loadtests.users.reply import Seen

TTFT, TPOT, GAP = "TTFT", "TPOT", "gap"
METRICS = (TTFT, TPOT, GAP)


def bucket(milliseconds: float) -> float:
    """Three digits. Locust's own histogram knows whole milliseconds, and a token may take less than one."""
    if milliseconds < 10:
        return round(milliseconds, 2)
    if milliseconds < 100:
        return round(milliseconds, 1)
    if milliseconds < 1000:
        return round(milliseconds)
    return round(milliseconds, 2 - len(str(int(milliseconds))) + 1)


def refine() -> None:
    """Makes Locust count in our buckets: the way that its documentation names."""
    locust.stats.bucket_response_time = bucket


class Rows:
    """Where a user of one kind writes what it saw. `kind` and `name` are the columns Type and Name."""

    def __init__(self, environment: Any, kind: str, name: str) -> None:
        self._environment = environment
        self._kind = kind
        self._name = name

    def right(self, began: float, ended: float, size: int, seen: Seen, *, streamed: bool) -> None:
        """A right reply: times in seconds of perf_counter, size in bytes."""
        self._fire(began, ended, size, None)
        if not streamed:
            return
        self._log(TTFT, seen.texts[0] - began, seen.tokens or 0)
        if seen.per_token is not None:
            self._log(TPOT, seen.per_token)
        for gap in seen.gaps:
            self._log(GAP, gap)

    def wrong(self, began: float, ended: float, reason: str) -> None:
        """A reply that counts as a failure, and none of its times as metrics."""
        self._fire(began, ended, 0, CatchResponseError(reason))

    def _fire(self, began: float, ended: float, size: int, exception: Exception | None) -> None:
        self._environment.events.request.fire(
            request_type=self._kind,
            name=self._name,
            response_time=(ended - began) * 1000,
            response_length=size,
            exception=exception,
            context={},
            start_time=time.time() - (time.perf_counter() - began),
            url=None,
        )

    def _log(self, metric: str, seconds: float, tokens: int = 0) -> None:
        self._environment.stats.get(self._name, metric).log(seconds * 1000, tokens)
