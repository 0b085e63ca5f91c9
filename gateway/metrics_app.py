"""The metrics port: the workers' counters, summed, in Prometheus' text format.

Workers report plain numbers; this side keeps the last report of each and, for a worker that has ended,
adds it to a base, so that no counter ever runs backwards. Names follow OpenTelemetry's GenAI metrics
where one exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.stats import EDGES

Report = dict[str, Any]
_HISTOGRAMS = {
    "first_text": (
        "gen_ai_server_time_to_first_token_seconds",
        "From the request's last byte to the first text.",
    ),
    "duration": ("gen_ai_server_request_duration_seconds", "From the request's last byte to its settlement."),
}


class Totals:
    """Reports of the workers, by worker index."""

    def __init__(self) -> None:
        self._live: dict[int, Report] = {}
        self._retired: list[Report] = []

    def update(self, worker: int, stats: Report) -> None:
        """A worker has reported."""
        self._live[worker] = stats

    def retire(self, worker: int) -> None:
        """A worker has ended: its counts stay, its requests in flight do not."""
        last = self._live.pop(worker, None)
        if last is not None:
            self._retired = [_sum([*self._retired, last | {"in_flight": 0}])]

    def render(self) -> str:
        """The whole page."""
        total = _sum([*self._retired, *self._live.values()])
        lines = [
            *_header("penstock_workers", "gauge", "Workers that report."),
            f"penstock_workers {len(self._live)}",
            *_header("penstock_requests_in_flight", "gauge", "Requests between admission and settlement."),
            f"penstock_requests_in_flight {total['in_flight']}",
            *_header("penstock_requests_total", "counter", "Requests that ended, by outcome."),
        ]
        for endpoint, version, outcome, count in total["requests"]:
            lines.append(f"penstock_requests_total{_labels(endpoint, version, outcome=outcome)} {count}")
        lines += _header("penstock_tokens_total", "counter", "Tokens read (input) and written (output).")
        for endpoint, version, direction, count in total["tokens"]:
            lines.append(f"penstock_tokens_total{_labels(endpoint, version, direction=direction)} {count}")
        for field, (name, meaning) in _HISTOGRAMS.items():
            lines += _header(name, "histogram", meaning)
            for endpoint, version, counts, seconds in total[field]:
                running = 0
                for edge, count in zip((*map(str, EDGES), "+Inf"), counts, strict=True):
                    running += count
                    lines.append(f"{name}_bucket{_labels(endpoint, version, le=edge)} {running}")
                lines.append(f"{name}_sum{_labels(endpoint, version)} {seconds:.6f}")
                lines.append(f"{name}_count{_labels(endpoint, version)} {running}")
        return "\n".join(lines) + "\n"


def make_metrics_app(totals: Totals) -> Starlette:
    """GET /metrics."""

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(totals.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(routes=[Route("/metrics", metrics)])


def _sum(reports: Iterable[Report]) -> Report:
    in_flight = 0
    counters: dict[str, Counter[tuple[str, ...]]] = {"requests": Counter(), "tokens": Counter()}
    histograms: dict[str, dict[tuple[str, str], tuple[list[int], float]]] = {name: {} for name in _HISTOGRAMS}
    for report in reports:
        in_flight += report["in_flight"]
        for field, counter in counters.items():
            for *labels, count in report[field]:
                counter[tuple(labels)] += count
        for field, sums in histograms.items():
            for endpoint, version, counts, seconds in report[field]:
                had, total = sums.get((endpoint, version), ([0] * len(counts), 0.0))
                sums[endpoint, version] = ([a + b for a, b in zip(had, counts, strict=True)], total + seconds)
    return {
        "in_flight": in_flight,
        **{
            field: [[*labels, count] for labels, count in sorted(counter.items())]
            for field, counter in counters.items()
        },
        **{
            field: [[*labels, *values] for labels, values in sorted(sums.items())] for field, sums in histograms.items()
        },
    }


def _header(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]


def _labels(endpoint: str, version: str, **more: str) -> str:
    pairs = {"endpoint": endpoint, "version": version, **more}
    return "{" + ",".join(f'{key}="{_escape(value)}"' for key, value in pairs.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
