"""What a worker's parts count for themselves."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from gateway.metrics_names import BY_FIELD, METRICS, Rows
from gateway.readings import ProcessReading, client_reading, journal_reading, upstream_reading
from gateway.stats import Stats
from gateway.totals import Totals


class Journal(NamedTuple):
    written: int = 10
    dropped: int = 2
    bytes: int = 4096
    pending_bytes: int = 512
    lag_ns: int = 3_000_000
    sync_lag_ns: int = 90_000_000


class Upstream(NamedTuple):
    replica: str
    connections: dict[str, int]
    in_flight: int
    events: dict[str, int]


def shown(rows: Rows) -> list[str]:
    """The lines that a worker with this reading has on the page, but those that every worker has."""
    stats, totals = Stats(), Totals()
    totals.update(1, stats.to_dict())
    before = totals.render().splitlines()
    stats.add(lambda: rows)
    totals.update(1, orjson.loads(orjson.dumps(stats.to_dict())))
    return [line for line in totals.render().splitlines() if line not in before]


def test_the_journal() -> None:
    assert shown(journal_reading(Journal)()) == [
        "penstock_journal_records_total 10",
        "penstock_journal_dropped_records_total 2",
        "penstock_journal_bytes_total 4096",
        'penstock_journal_pending_bytes{worker="1"} 512',
        'penstock_journal_lag_seconds{worker="1"} 0.003000000',
        'penstock_journal_sync_lag_seconds{worker="1"} 0.090000000',
    ]


def test_upstream_connections() -> None:
    one = Upstream("a:8001", {"ready": 2, "connecting": 0}, 7, {"connected": 3, "lost": 1})
    other = Upstream("b:8001", {"ready": 0, "connecting": 2}, 0, {"connected": 0, "lost": 0})
    assert shown(upstream_reading(lambda: [one, other])()) == [
        'penstock_upstream_connections{replica="a:8001",state="connecting",worker="1"} 0',
        'penstock_upstream_connections{replica="a:8001",state="ready",worker="1"} 2',
        'penstock_upstream_connections{replica="b:8001",state="connecting",worker="1"} 2',
        'penstock_upstream_connections{replica="b:8001",state="ready",worker="1"} 0',
        'penstock_upstream_streams{replica="a:8001",worker="1"} 7',
        'penstock_upstream_streams{replica="b:8001",worker="1"} 0',
        'penstock_upstream_connection_events_total{replica="a:8001",event="connected"} 3',
        'penstock_upstream_connection_events_total{replica="a:8001",event="lost"} 1',
        'penstock_upstream_connection_events_total{replica="b:8001",event="connected"} 0',
        'penstock_upstream_connection_events_total{replica="b:8001",event="lost"} 0',
    ]


def test_client_connections() -> None:
    assert shown(client_reading(lambda: 4)()) == ['penstock_client_connections{worker="1"} 4']


def test_the_process() -> None:
    reading = ProcessReading()
    try:
        before = time.process_time_ns()
        rows = reading()
        after = time.process_time_ns()
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    finally:
        reading.close()
    ((_, (cpu,)),) = rows["cpu"]
    ((_, (memory,)),) = rows["memory"]
    assert before <= cpu <= after
    assert memory % os.sysconf("SC_PAGE_SIZE") == 0
    # The kernel counts this in batches per processor, so the two files differ by a little.
    assert memory == pytest.approx(int(status["VmRSS"].split()[0]) * 1024, rel=0.1)
    assert len(shown(rows)) == 2


def test_the_process_is_read_when_no_more_files_can_be_opened() -> None:
    reading = ProcessReading()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            ProcessReading()
        assert set(reading()) == {"cpu", "memory"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        reading.close()


def test_readings_give_only_what_the_table_has() -> None:
    process = ProcessReading()
    upstream = Upstream("a:1", {"ready": 1}, 1, {"lost": 1})
    rows = journal_reading(Journal)() | upstream_reading(lambda: [upstream])() | client_reading(lambda: 1)() | process()
    process.close()
    for field, series in rows.items():
        assert all(len(labels) == len(BY_FIELD[field].labels) for labels, _ in series)
    counted = set(Stats().to_dict()) | {"version_in_flight", "requests", "tokens", "cost", "unpriced"}
    counted |= {"first_text", "per_token", "duration", "overhead", "loop_lag", "loop_lag_max", "workers"}
    assert {metric.field for metric in METRICS} == set(rows) | counted - {"life"}
