"""Plain counters of a worker: what settle feeds, what the metrics port shows.

Counters live in dicts keyed by their labels and are summed over workers by the supervisor. Labels are
endpoint, version and outcome; never a user or a key.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from gateway.journal.record import Record

# Seconds. Upper edges; a last bucket without an edge follows.
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts per bucket and the sum, in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(EDGES, seconds)] += 1
        self.sum += seconds


class Stats:
    """One worker's counters. `in_flight` is the number of requests between admission and settlement."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.requests: dict[tuple[str, str, str], int] = {}
        self.tokens: dict[tuple[str, str, str], int] = {}
        self.first_text: dict[tuple[str, str], Histogram] = {}
        self.duration: dict[tuple[str, str], Histogram] = {}

    def settle(self, record: Record) -> None:
        """One request has ended."""
        where = (record.endpoint, record.version)
        key = (*where, record.outcome)
        self.requests[key] = self.requests.get(key, 0) + 1
        for direction, count in (("input", record.prompt_tokens), ("output", record.completion_tokens)):
            if count:
                self.tokens[(*where, direction)] = self.tokens.get((*where, direction), 0) + count
        if record.first_text is not None:
            self.first_text.setdefault(where, Histogram()).observe(record.first_text / 1e9)
        self.duration.setdefault(where, Histogram()).observe(record.ended / 1e9)

    def to_dict(self) -> dict[str, Any]:
        """The counters as JSON can carry them: label values joined to a list beside each figure."""
        return {
            "in_flight": self.in_flight,
            "requests": [[*key, count] for key, count in self.requests.items()],
            "tokens": [[*key, count] for key, count in self.tokens.items()],
            "first_text": [[*key, value.counts, value.sum] for key, value in self.first_text.items()],
            "duration": [[*key, value.counts, value.sum] for key, value in self.duration.items()],
        }
