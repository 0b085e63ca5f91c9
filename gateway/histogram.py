"""A histogram over fixed edges: two list operations an observation."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Counts per bucket and the sum. `edges` are upper edges in nanoseconds, rising; a last bucket has none."""

    __slots__ = ("_edges", "counts", "sum")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self._edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0

    def __repr__(self) -> str:
        return f"<Histogram count={sum(self.counts)} sum={self.sum / 1e9:g}s>"

    def observe(self, nanoseconds: int) -> None:
        """Count one. What is on an edge is below it."""
        self.counts[bisect_left(self._edges, nanoseconds)] += 1
        self.sum += nanoseconds

    def figures(self) -> list[int]:
        """As reports carry it: counts per bucket, then the sum in microseconds: 64 bits of nanoseconds are 292 years,
        and a thousand streams live that long in four months."""
        return [*self.counts, self.sum // 1000]
