"""The workers' figures, summed.

Workers report what they have counted since they began. This side keeps the last report of each; when a worker has
ended, its counters are kept and its gauges are not, so that no counter runs backwards. A report says which life of the
worker it is of: a new process in an old place, or a worker that was thought dead and comes back, is told by that.
"""

from __future__ import annotations

from gateway.metrics_names import BY_FIELD, Report
from gateway.metrics_page import render_page

Sums = dict[str, dict[tuple[str, ...], list[int]]]


class Totals:
    """Reports of the workers, by worker index."""

    def __init__(self) -> None:
        self._live: dict[int, Report] = {}
        self._ended: dict[int, Report] = {}  # the last life of each place; it may turn out not to be over
        self._base: Sums = {}  # of all lives before that

    def __repr__(self) -> str:
        return f"<Totals live={sorted(self._live)} ended={sorted(self._ended)}>"

    def update(self, worker: int, stats: Report) -> None:
        """A worker has reported: `stats` is what its `Stats.to_dict` gave."""
        known, ended, life = self._live.get(worker), self._ended.get(worker), stats.get("life")
        if any(_life(one) > _life(stats) for one in (known, ended) if one is not None):
            return  # the last word of a process came after the first of its successor: it is counted without it
        if known is not None and known.get("life") != life:
            self.retire(worker)
        elif known is None and ended is not None and life is not None and ended.get("life") == life:
            del self._ended[worker]  # only its link was down
        self._live[worker] = stats

    def retire(self, worker: int) -> None:
        """A worker has ended: its counts stay, its requests in flight do not."""
        last = self._live.pop(worker, None)
        if last is None:
            return
        before = self._ended.get(worker)
        if before is not None:
            _add(self._base, worker, before, gauges=False)
        self._ended[worker] = last

    def total(self, field: str) -> int:
        """One counter or gauge over all its labels and workers."""
        return sum(figures[0] for figures in self._sums().get(field, {}).values())

    def render(self) -> str:
        """The whole page."""
        return render_page(self._sums())

    def _sums(self) -> Sums:
        sums: Sums = {
            field: {labels: list(figures) for labels, figures in series.items()} for field, series in self._base.items()
        }
        sums["workers"] = {(): [len(self._live)]}
        sums["in_flight"] = {(): [0]}
        for worker, report in self._ended.items():
            _add(sums, worker, report, gauges=False)
        for worker, report in self._live.items():
            _add(sums, worker, report, gauges=True)
        return sums


def _life(report: Report) -> int:
    life: int = report.get("life") or 0
    return life


def _add(sums: Sums, worker: int, report: Report, *, gauges: bool) -> None:
    for field, metric in BY_FIELD.items():
        if metric.kind == "gauge" and not gauges:
            continue
        series = sums.setdefault(field, {})
        for labels, figures in report.get(field, ()):
            key = (*labels, str(worker)) if metric.per_worker else tuple(labels)
            had = series.get(key)
            series[key] = list(figures) if had is None else [a + b for a, b in zip(had, figures, strict=True)]
