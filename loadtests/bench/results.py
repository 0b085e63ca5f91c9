"""What was measured: figures, their medians and ranges, and the ratios that the promise is about.

A figure is one row of one contender in one repetition. A ratio below 1 says that Penstock is cheaper.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

OURS = "penstock"
DIRECT = "direct"
BASELINE = "vllm-router"


@dataclass(slots=True)
class Figure:
    """What one row cost one contender in one repetition. None: this row doesn't measure it."""

    row: str
    contender: str
    repetition: int
    work: int
    """Requests of a unary row, tokens of a streamed one."""
    cpu_us: float
    """User and system time of all its processes per unit of work, in microseconds."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """Of a whole request, first byte sent to last byte received."""
    ttft_ms: float | None = None
    """Median over the streams, to the first text."""
    worst_gap_ms: float | None = None
    """The longest wait between two tokens of any stream."""
    peak_mib: float | None = None
    """Sum over its processes of each one's peak resident memory."""
    growth_mib: float | None = None
    """Resident memory gained between the warm-up and the end."""
    errors: int = 0
    """Requests without a whole answer: refused, cut off, timed out."""
    wrong: int = 0
    """Whole answers that are not what the upstream sent."""


class Spread(NamedTuple):
    """The median of the repetitions and their range."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Report:
    """One run of the bench."""

    facts: dict[str, Any] = field(default_factory=dict)
    """Machine, versions, arguments; when and how long."""
    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Contender to the reason why it isn't here, or is missing from a row."""

    def rows(self) -> list[str]:
        """The rows that have figures, in the order measured."""
        return list(dict.fromkeys(figure.row for figure in self.figures))

    def contenders(self) -> list[str]:
        """The contenders that have figures, in the order measured."""
        return list(dict.fromkeys(figure.contender for figure in self.figures))

    def of(self, row: str, contender: str) -> list[Figure]:
        """The repetitions of one cell of the table."""
        return [figure for figure in self.figures if figure.row == row and figure.contender == contender]

    def medians(self, row: str, contender: str, measure: str = "cpu_us") -> Spread | None:
        """Median, lowest and highest of `measure` (a field of Figure) over the repetitions; None: not measured."""
        values = [value for figure in self.of(row, contender) if (value := getattr(figure, measure)) is not None]
        return Spread(median(values), min(values), max(values)) if values else None

    def wrong(self) -> int:
        """Replies of all rows that were missing or not as sent."""
        return sum(figure.wrong + figure.errors for figure in self.figures)

    def ratios(self) -> dict[str, float]:
        """The figures that are promised, by name; what wasn't measured is left out.

        `<row>_vs_<peer>` are of CPU per unit of work, `added_…_ms` are over the upstream itself.
        """
        return dict(self._ratios())

    def _ratios(self) -> Iterator[tuple[str, float]]:
        for row in self.rows():
            ours = self.medians(row, OURS)
            for peer in self.contenders():
                theirs = self.medians(row, peer)
                if peer not in (OURS, DIRECT) and ours and theirs and theirs.median:
                    yield f"{row}_vs_{peer.replace('-', '_')}", round(ours.median / theirs.median, 4)
        for name, row, measure in ADDED:
            ours, bare = self.medians(row, OURS, measure), self.medians(row, DIRECT, measure)
            if ours and bare:
                yield name, round(ours.median - bare.median, 4)
        for peer in self.contenders():
            mine, its = self._peak(OURS), self._peak(peer)
            if peer not in (OURS, DIRECT) and mine and its:
                yield f"peak_memory_vs_{peer.replace('-', '_')}", round(mine / its, 4)

    def _peak(self, contender: str) -> float | None:
        peaks = [spread.median for row in self.rows() if (spread := self.medians(row, contender, "peak_mib"))]
        return max(peaks, default=None)

    def write(self, path: Path) -> None:
        """All of it as JSON, ratios first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"ratios": self.ratios(), **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote, for another table or chart. Raises TypeError for fields that it doesn't know."""
        content = json.loads(path.read_text())
        return cls(content["facts"], [Figure(**figure) for figure in content["figures"]], content["skipped"])


ADDED = (
    ("added_p50_ms", "unary_c1", "p50_ms"),
    ("added_p99_ms", "unary_c1", "p99_ms"),
    ("added_ttft_ms", "stream_step_c64", "ttft_ms"),
    ("added_worst_gap_ms", "stream_step_c64", "worst_gap_ms"),
)
"""Ratio's name, row and measure of what Penstock adds over the upstream itself."""
