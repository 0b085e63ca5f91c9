"""What a journal says in figures: per endpoint and version, in one pass and in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.journal.histogram import LogHistogram
from gateway.journal.reader import Tally, payloads, segments_since

SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
MS = 1_000_000


class Line(Struct, gc=False):
    """The fields of a record that figures need; the others are skipped without being decoded. Units as there."""

    at: int
    outcome: str
    endpoint: str = ""
    version: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    stream: bool = False
    chunks: int = 0
    first_text: int | None = None
    last_text: int | None = None
    ended: int = 0
    cost: int | None = None


class Figures:
    """Of one version, or of what was refused before one was chosen."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.requests = 0
        self.first_text = LogHistogram()
        self.per_token = LogHistogram()
        self.total = LogHistogram()
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost = 0
        self.priced = 0

    def add(self, line: Line) -> None:
        """One inference.

        TTFT and TPOT are of streams: a whole answer comes at once, which says nothing of either. The total is of
        finished ones: a refusal is quick, and says nothing of the engine.
        """
        self.requests += 1
        self.outcomes[line.outcome] = self.outcomes.get(line.outcome, 0) + 1
        tokens = line.completion_tokens or 0
        self.prompt_tokens += line.prompt_tokens or 0
        self.completion_tokens += tokens
        if line.cost is not None:
            self.cost += line.cost
            self.priced += 1
        if line.stream and line.first_text is not None:
            self.first_text.add(line.first_text)
            if line.last_text is not None and line.chunks > 1 and tokens > 1:
                self.per_token.add((line.last_text - line.first_text) / (tokens - 1))
        if line.outcome == "finished":
            self.total.add(line.ended)


class Report:
    """All figures. `first` and `last` are when the earliest and the latest inference was received, Unix nanoseconds."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, str], Figures] = {}
        self.records = 0
        self.first: int | None = None
        self.last: int | None = None
        self.skipped = Tally()

    def add(self, line: Line) -> None:
        """One inference."""
        key = (line.endpoint, line.version)
        figures = self.figures.get(key)
        if figures is None:
            figures = self.figures[key] = Figures()
        figures.add(line)
        self.records += 1
        if self.first is None or line.at < self.first:
            self.first = line.at
        if self.last is None or line.at > self.last:
            self.last = line.at

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Times in milliseconds; `share` is of the endpoint's requests that were given to a version;
        `cost_nano_usd` is None when no request had a price, and sums the `priced` ones."""
        totals: dict[str, int] = {}
        for (endpoint, version), figures in self.figures.items():
            if version:
                totals[endpoint] = totals.get(endpoint, 0) + figures.requests
        rows = [
            {
                "endpoint": endpoint,
                "version": version,
                "requests": figures.requests,
                "share": figures.requests / totals[endpoint] if version else None,
                "outcomes": dict(sorted(figures.outcomes.items())),
                "ttft_ms": _percentiles(figures.first_text),
                "tpot_ms": _percentiles(figures.per_token),
                "total_ms": _percentiles(figures.total),
                "prompt_tokens": figures.prompt_tokens,
                "completion_tokens": figures.completion_tokens,
                "cost_nano_usd": figures.cost if figures.priced else None,
                "priced": figures.priced,
            }
            for (endpoint, version), figures in sorted(self.figures.items())
        ]
        skipped = msgspec.to_builtins(self.skipped)
        return {"records": self.records, "first": self.first, "last": self.last, "skipped": skipped, "versions": rows}


def report(folder: Path, *, since: int = 0, seen: Callable[[int], None] | None = None) -> Report:
    """The figures of all records, or of those that ended after `since` (Unix nanoseconds).

    `seen` hears how many bytes have been read. Errors: OSError when the folder may not be read.
    """
    made = Report()
    decode = msgspec.json.Decoder(Line).decode
    behind = 0
    for segment in segments_since(folder, since):
        for payload in payloads(segment, made.skipped, seen=_from(behind, seen)):
            try:
                line = decode(payload)
            except msgspec.DecodeError:
                made.skipped.unreadable += 1
                made.skipped.bytes += len(payload)
                continue
            if line.at + line.ended >= since:
                made.add(line)
        if segment.path.exists():
            behind += segment.path.stat().st_size
    return made


def _from(behind: int, seen: Callable[[int], None] | None) -> Callable[[int], None] | None:
    return None if seen is None else lambda offset: seen(behind + offset)


def _percentiles(histogram: LogHistogram) -> dict[str, float | None]:
    values = {name: histogram.quantile(share) for name, share in SHARES}
    return {name: None if value is None else round(value / MS, 4) for name, value in values.items()}
