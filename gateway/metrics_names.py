"""Every metric, in one table: the page, the totals and docs/metrics.md are all made from it.

The rules:

- A worker reports integers: a metric's `digits` says how many decimals of its unit they carry, so that sums stay
  exact and no counter can run backwards by a rounding.
- Labels name what an operator configures (endpoint, version, replica) or what we define (outcome, code, state):
  never a user, a key or anything else that a caller writes.
- Where OpenTelemetry's GenAI conventions have a metric, its name and its bucket edges are theirs, the name as
  Prometheus spells it: dots become underscores and the unit is appended.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Row: TypeAlias = tuple[tuple[str, ...], list[int]]
"""Label values in the table's order; one figure, or a histogram's counts per bucket and, last, its sum."""
Rows: TypeAlias = dict[str, list[Row]]
"""By field. As JSON carries it, tuples are lists."""
Report: TypeAlias = dict[str, Any]
"""The rows of one worker, and `life`: which process it is, as the monotonic nanoseconds of its beginning."""

MICRO, MILLI, SECOND = 1_000, 1_000_000, 1_000_000_000


class Metric(Struct, frozen=True):
    """One family. `field` is its key in reports.

    `per_worker` adds a `worker` label; all else is summed over the workers. `digits` are the decimals that a reported
    figure carries. `edges` are a histogram's upper bucket edges in nanoseconds; a last bucket without an edge follows.
    `convention` is OpenTelemetry's name.
    """

    field: str
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    per_worker: bool = False
    digits: int = 0
    edges: tuple[int, ...] = ()
    convention: str = ""


def _scaled(unit: int, *edges: float) -> tuple[int, ...]:
    return tuple(round(edge * unit) for edge in edges)


_WHERE = ("endpoint", "version")

# TTFT and duration: the conventions' edges. TPOT: theirs up to a second, and finer ones below 10 ms, where a good
# engine lives.
_FIRST_TEXT = _scaled(MILLI, 1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1e3, 2.5e3, 5e3, 7.5e3, 10e3)
_PER_TOKEN = _scaled(MILLI, 1, 2, 3, 4, 5, 7.5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1e3)
_DURATION = _scaled(MILLI, *(10 * 2**power for power in range(14)))
_OVERHEAD = _scaled(MICRO, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 20e3, 50e3, 100e3)
_LOOP_LAG = _scaled(MILLI, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3)

METRICS = (
    Metric(
        "requests",
        "penstock_requests_total",
        "counter",
        "requests",
        (*_WHERE, "outcome", "code"),
        "Inferences that have ended: outcome is the record's, code the error's or empty. Endpoint and version are "
        "empty where it ended before one was chosen.",
    ),
    Metric(
        "in_flight",
        "penstock_requests_in_flight",
        "gauge",
        "requests",
        (),
        "Inferences between admission and settlement.",
    ),
    Metric(
        "version_in_flight",
        "penstock_version_requests_in_flight",
        "gauge",
        "requests",
        _WHERE,
        "The same by version, from when one was chosen.",
    ),
    Metric(
        "tokens",
        "penstock_tokens_total",
        "counter",
        "tokens",
        (*_WHERE, "direction"),
        "Tokens read (input) and written (output), as far as they were counted.",
    ),
    Metric(
        "cost",
        "penstock_cost_usd_total",
        "counter",
        "US dollars",
        _WHERE,
        "Cost of the inferences that have a price, exact to the nano-dollar.",
        digits=9,
    ),
    Metric(
        "unpriced",
        "penstock_unpriced_requests_total",
        "counter",
        "requests",
        _WHERE,
        "Inferences that an engine was asked for and whose cost is unknown: no price, or tokens that were not counted.",
    ),
    Metric(
        "first_text",
        "gen_ai_server_time_to_first_token_seconds",
        "histogram",
        "seconds",
        _WHERE,
        "TTFT of streams: from the request's last byte to the first text out.",
        digits=6,
        edges=_FIRST_TEXT,
        convention="gen_ai.server.time_to_first_token",
    ),
    Metric(
        "per_token",
        "gen_ai_server_time_per_output_token_seconds",
        "histogram",
        "seconds",
        _WHERE,
        "TPOT of streams of two messages or more: from the first text to the last, for each token after the first.",
        digits=6,
        edges=_PER_TOKEN,
        convention="gen_ai.server.time_per_output_token",
    ),
    Metric(
        "duration",
        "gen_ai_server_request_duration_seconds",
        "histogram",
        "seconds",
        (*_WHERE, "outcome"),
        "From the request's last byte to its settlement, of requests for which a version was chosen.",
        digits=6,
        edges=_DURATION,
        convention="gen_ai.server.request.duration",
    ),
    Metric(
        "overhead",
        "penstock_gateway_overhead_seconds",
        "histogram",
        "seconds",
        _WHERE,
        "Time spent in the gateway before the engine was asked.",
        digits=6,
        edges=_OVERHEAD,
    ),
    Metric(
        "http_refusals",
        "penstock_http_refusals_total",
        "counter",
        "requests",
        ("code",),
        "Requests refused while they were read and that were none for an inference route: invalid HTTP, slow or "
        "oversized. Those for an inference route are in penstock_requests_total.",
    ),
    Metric(
        "client_connections",
        "penstock_client_connections",
        "gauge",
        "connections",
        (),
        "Open client connections over HTTP.",
        per_worker=True,
    ),
    Metric(
        "upstream_connections",
        "penstock_upstream_connections",
        "gauge",
        "connections",
        ("replica", "state"),
        "Connections to a replica by state: ready, full (takes no more streams now), draining, or connecting.",
        per_worker=True,
    ),
    Metric(
        "upstream_streams",
        "penstock_upstream_streams",
        "gauge",
        "streams",
        ("replica",),
        "Calls in flight on the connections to a replica.",
        per_worker=True,
    ),
    Metric(
        "upstream_events",
        "penstock_upstream_connection_events_total",
        "counter",
        "events",
        ("replica", "event"),
        "What happened to connections to a replica: connected, failed (an attempt), lost, goaway (asked to leave).",
    ),
    Metric(
        "journal_records",
        "penstock_journal_records_total",
        "counter",
        "records",
        (),
        "Records written to the journal.",
    ),
    Metric(
        "journal_dropped",
        "penstock_journal_dropped_records_total",
        "counter",
        "records",
        (),
        "Records that could not be kept: the disk was full or too slow, and the memory for them at its bound.",
    ),
    Metric(
        "journal_bytes",
        "penstock_journal_bytes_total",
        "counter",
        "bytes",
        (),
        "Bytes written to the journal.",
    ),
    Metric(
        "journal_pending",
        "penstock_journal_pending_bytes",
        "gauge",
        "bytes",
        (),
        "Bytes of records that wait in memory to be written.",
        per_worker=True,
    ),
    Metric(
        "journal_lag",
        "penstock_journal_lag_seconds",
        "gauge",
        "seconds",
        (),
        "Age of the oldest record that is not yet written: a kill of the worker would lose it.",
        per_worker=True,
        digits=9,
    ),
    Metric(
        "journal_sync_lag",
        "penstock_journal_sync_lag_seconds",
        "gauge",
        "seconds",
        (),
        "Age of the oldest write that is not yet synced: a power cut would lose it.",
        per_worker=True,
        digits=9,
    ),
    Metric(
        "loop_lag",
        "penstock_event_loop_lag_seconds",
        "histogram",
        "seconds",
        (),
        "How late the event loop ran a timer, ten times a second.",
        per_worker=True,
        digits=6,
        edges=_LOOP_LAG,
    ),
    Metric(
        "loop_lag_max",
        "penstock_event_loop_lag_max_seconds",
        "gauge",
        "seconds",
        (),
        "The worst of these in the last 30 to 60 seconds.",
        per_worker=True,
        digits=9,
    ),
    Metric(
        "cpu",
        "penstock_worker_cpu_seconds_total",
        "counter",
        "seconds",
        (),
        "Processor time of the worker, user and system.",
        per_worker=True,
        digits=9,
    ),
    Metric(
        "memory",
        "penstock_worker_resident_memory_bytes",
        "gauge",
        "bytes",
        (),
        "Resident memory of the worker.",
        per_worker=True,
    ),
    Metric("workers", "penstock_workers", "gauge", "workers", (), "Workers that report."),
)

BY_FIELD = {metric.field: metric for metric in METRICS}
