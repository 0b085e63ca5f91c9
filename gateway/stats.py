"""Plain counters of a worker: what settle feeds, what the metrics port shows.

A settlement costs some dict look-ups and bisections; everything else is done when a report is made. Readings are of
parts that count for themselves (journal, upstream connections, process): they are asked at each report.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from gateway.histogram import Histogram
from gateway.journal.record import Outcome, Record
from gateway.metrics_names import BY_FIELD, Report, Row, Rows

log = logging.getLogger("penstock.stats")

Reading: TypeAlias = Callable[[], Rows]
"""Figures of one part, by the fields of the metrics table."""

_FIRST_TEXT = BY_FIELD["first_text"].edges
_PER_TOKEN = BY_FIELD["per_token"].edges
_DURATION = BY_FIELD["duration"].edges
_OVERHEAD = BY_FIELD["overhead"].edges


class InFlight(Protocol):
    """Where the requests under way are counted."""

    in_flight: int


class _Figures:
    """The counters of one version. Cost is in nano-USD."""

    __slots__ = (
        "cost",
        "duration",
        "first_text",
        "in_flight",
        "input_tokens",
        "output_tokens",
        "overhead",
        "per_token",
        "requests",
        "unpriced",
    )

    def __init__(self) -> None:
        self.in_flight = self.input_tokens = self.output_tokens = self.cost = self.unpriced = 0
        self.requests: dict[tuple[Outcome, str], int] = {}
        self.first_text = Histogram(_FIRST_TEXT)
        self.per_token = Histogram(_PER_TOKEN)
        self.overhead = Histogram(_OVERHEAD)
        self.duration: dict[Outcome, Histogram] = {}


class Stats:
    """One worker's counters. `in_flight` is the number of requests between admission and settlement."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._life = time.monotonic_ns()
        self._versions: dict[tuple[str, str], _Figures] = {}
        self._http_refusals: dict[str, int] = {}
        self._readings: list[Reading] = []

    def __repr__(self) -> str:
        ended = sum(sum(figures.requests.values()) for figures in self._versions.values())
        return f"<Stats in_flight={self.in_flight} ended={ended} versions={len(self._versions)}>"

    def add(self, reading: Reading) -> None:
        """Report the figures of one more part. Called when the worker is wired."""
        self._readings.append(reading)

    def enter(self, endpoint: str, version: str) -> InFlight:
        """A version was chosen for a request, whose end takes one off what is returned."""
        figures = self._of(endpoint, version)
        figures.in_flight += 1
        return figures

    def refuse_http(self, code: str) -> None:
        """A request that was none for an inference route was refused while it was read. `code` is the error's."""
        self._http_refusals[code] = self._http_refusals.get(code, 0) + 1

    def settle(self, record: Record) -> None:
        """One request has ended."""
        figures = self._of(record.endpoint, record.version)
        outcome, failure, sent = record.outcome, record.failure, record.sent
        key = (outcome, failure.code if failure is not None else "")
        figures.requests[key] = figures.requests.get(key, 0) + 1
        if not record.endpoint:
            return  # it was over before there was anything to measure
        duration = figures.duration.get(outcome)
        if duration is None:
            duration = figures.duration[outcome] = Histogram(_DURATION)
        duration.observe(record.ended)
        if sent is None:
            return
        figures.overhead.observe(sent)
        figures.input_tokens += record.prompt_tokens or 0
        figures.output_tokens += record.completion_tokens or 0
        if record.cost is not None:
            figures.cost += record.cost
        else:
            figures.unpriced += 1
        if record.stream and record.first_text is not None:
            # An answer in one piece has no first token that we could see, and no time per token.
            figures.first_text.observe(record.first_text)
            if record.chunks > 1 and (per_token := record.per_token) is not None:
                figures.per_token.observe(int(per_token))

    def to_dict(self) -> Report:
        """All figures as JSON carries them: see `Report`."""
        rows: Rows = {"in_flight": [((), [self.in_flight])]}
        for where, figures in self._versions.items():
            for field, row in _rows(where, figures):
                rows.setdefault(field, []).append(row)
        rows["http_refusals"] = [((code,), [count]) for code, count in self._http_refusals.items()]
        for reading in list(self._readings):
            try:
                rows |= reading()
            except Exception:
                # A report is also a worker's sign of life: one part that cannot count must not cost the worker.
                log.exception("figures of %r can't be read; they are left out from now on", reading)
                self._readings.remove(reading)
        return {"life": self._life, **rows}

    def _of(self, endpoint: str, version: str) -> _Figures:
        figures = self._versions.get((endpoint, version))
        if figures is None:
            figures = self._versions[endpoint, version] = _Figures()
        return figures


def _rows(where: tuple[str, str], figures: _Figures) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = [("requests", ((*where, *key), [count])) for key, count in figures.requests.items()]
    if not where[0]:
        return rows
    rows += [
        ("version_in_flight", (where, [figures.in_flight])),
        ("tokens", ((*where, "input"), [figures.input_tokens])),
        ("tokens", ((*where, "output"), [figures.output_tokens])),
        ("cost", (where, [figures.cost])),
        ("unpriced", (where, [figures.unpriced])),
        ("first_text", (where, figures.first_text.figures())),
        ("per_token", (where, figures.per_token.figures())),
        ("overhead", (where, figures.overhead.figures())),
    ]
    rows += [("duration", ((*where, outcome), one.figures())) for outcome, one in figures.duration.items()]
    return rows
