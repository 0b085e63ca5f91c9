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
"""The load client on the OpenAI mock: what the peers add to."""
DIRECT_TRITON = "direct-triton"
"""The load client on Triton's gRPC: what Penstock adds to."""
BASELINE = "vllm-router"


@dataclass(slots=True)
class Figure:
    """What one row cost one contender in one repetition. None: this row doesn't measure it."""

    row: str
    contender: str
    repetition: int
    work: int
    """Requests of a unary row, tokens of a streamed one."""
    cpu_us: float | None = None
    """User and system time of all its processes per unit of work, in microseconds; None of the upstreams."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """Of a whole request, first byte sent to last byte received."""
    ttft_ms: float | None = None
    """Median over the streams, to the first text."""
    worst_gap_ms: float | None = None
    """The longest wait between two tokens of any stream."""
    peak_mib: float | None = None
    """Sum over its processes of each one's peak resident memory."""
    worker_mib: float | None = None
    """Peak resident memory of its largest process."""
    growth_mib: float | None = None
    """Resident memory gained by 100,000 requests after the warm-up."""
    errors: int = 0
    """Requests without a whole answer: refused, cut off, timed out."""
    wrong: int = 0
    """Whole answers that are not what the upstream sent."""
    samples: list[str] = field(default_factory=list)
    """The first errors and wrong answers, in words."""
    seconds: float | None = None
    """How long the measured part took, to its last reply."""
    client_cpu_us: float | None = None
    """What the load client itself used per unit of work: it shares the machine."""


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

    def problems(self) -> list[str]:
        """Every cell with errors or wrong answers, in words."""
        return [
            f"{one.contender}, {one.row}: {one.errors} errors, {one.wrong} wrong; {'; '.join(one.samples)}"
            for one in self.figures
            if one.errors or one.wrong
        ]

    def ratios(self) -> dict[str, float]:
        """The figures that are promised, by name; what wasn't measured is left out.

        `<row>_vs_<peer>` are of CPU per unit of work, `added_…_ms` are over the upstream itself.
        """
        return dict(self._ratios())

    def added(self, row: str, contender: str, measure: str) -> float | None:
        """What the contender adds to its upstream alone, in `measure`'s unit; None: not measured."""
        bare = self.medians(row, DIRECT_TRITON if contender == OURS else DIRECT, measure)
        whole = self.medians(row, contender, measure)
        return round(whole.median - bare.median, 4) if whole and bare else None

    def peers(self) -> list[str]:
        """The contenders beside ours; the upstreams alone are none."""
        return [name for name in self.contenders() if name not in (OURS, DIRECT, DIRECT_TRITON)]

    def peak(self, contender: str, measure: str = "peak_mib") -> float | None:
        """The highest median over its rows."""
        return max(
            [spread.median for row in self.rows() if (spread := self.medians(row, contender, measure))], default=None
        )

    def _ratios(self) -> Iterator[tuple[str, float]]:
        for row in self.rows():
            ours = self.medians(row, OURS)
            for peer in self.peers():
                theirs = self.medians(row, peer)
                if ours and theirs and theirs.median:
                    yield f"{row}_vs_{_word(peer)}", round(ours.median / theirs.median, 4)
        for name, row, measure in ADDED:
            added = self.added(row, OURS, measure)
            if added is not None:
                yield name, added
        for name, measure in (("peak_memory", "peak_mib"), ("worker_memory", "worker_mib")):
            for peer in self.peers():
                mine, its = self.peak(OURS, measure), self.peak(peer, measure)
                if mine and its:
                    yield f"{name}_vs_{_word(peer)}", round(mine / its, 4)

    def write(self, path: Path) -> None:
        """All of it as JSON, ratios first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"ratios": self.ratios(), **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote, for another table or chart. Raises TypeError for fields that it doesn't know."""
        content = json.loads(path.read_text())
        return cls(content["facts"], [Figure(**figure) for figure in content["figures"]], content["skipped"])


def _word(contender: str) -> str:
    return contender.replace("-", "_")


ADDED = (
    ("added_p50_ms", "unary_c1", "p50_ms"),
    ("added_p99_ms", "unary_c1", "p99_ms"),
    ("added_ttft_ms", "stream_c1", "ttft_ms"),
    ("added_worst_gap_ms", "stream_step_c64", "worst_gap_ms"),
)
"""Ratio's name, row and measure of what Penstock adds over the upstream itself."""
