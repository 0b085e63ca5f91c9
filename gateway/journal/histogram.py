"""A histogram on a logarithmic scale: quantiles within 2 % whatever the range, in a fixed number of counters.

Bucket i holds what lies in (G^(i-1), G^i] with G = (1 + E) / (1 - E); the value given for it is off by E of the true
one at most. This is the mapping of DDSketch (Masson, Rim, Lee: VLDB 2019).
"""

from __future__ import annotations

from math import ceil, log

ERROR = 0.02
LARGEST = 10**15
"""Above it all is one bucket; as nanoseconds these are eleven days."""
_BASE = (1 + ERROR) / (1 - ERROR)
_SCALE = 1 / log(_BASE)
_BUCKETS = ceil(log(LARGEST) * _SCALE) + 1


class LogHistogram:
    """Counts of whole numbers or fractions from 0 on; what is below 1 counts as 0."""

    __slots__ = ("_counts", "_zeros", "count")

    def __init__(self) -> None:
        self.count = 0
        self._zeros = 0
        self._counts = [0] * _BUCKETS

    def add(self, value: float) -> None:
        """One value."""
        self.count += 1
        if value < 1:
            self._zeros += 1
        else:
            self._counts[min(ceil(log(value) * _SCALE), _BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float | None:
        """The smallest value that at least `share` of all values do not exceed; None when there is none."""
        if not self.count:
            return None
        wanted = max(1, ceil(share * self.count))
        passed = self._zeros
        if passed >= wanted:
            return 0.0
        for bucket, count in enumerate(self._counts):
            passed += count
            if passed >= wanted:
                return float(2 * _BASE**bucket / (_BASE + 1))
        raise AssertionError("the counts add up to all values")
