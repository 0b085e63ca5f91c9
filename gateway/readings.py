"""Readings for a worker's report: what its parts count for themselves, as rows of the metrics table.

Each part is known by the few attributes that are read, so that none of them has to know of metrics.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from gateway.metrics_names import Rows


class JournalFigures(Protocol):
    """What a journal's writer knows of itself. Bytes, and nanoseconds: the age of the oldest record that is not yet
    written, and of the oldest write that is not yet synced."""

    @property
    def written(self) -> int: ...

    @property
    def dropped(self) -> int: ...

    @property
    def bytes(self) -> int: ...

    @property
    def pending_bytes(self) -> int: ...

    @property
    def lag_ns(self) -> int: ...

    @property
    def sync_lag_ns(self) -> int: ...


class UpstreamFigures(Protocol):
    """What an engine knows of its connections: how many by state, calls in flight, events since it began."""

    @property
    def replica(self) -> str: ...

    @property
    def connections(self) -> Mapping[str, int]: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def events(self) -> Mapping[str, int]: ...


def journal_reading(read: Callable[[], JournalFigures]) -> Callable[[], Rows]:
    """Records written and dropped, bytes, what waits and for how long."""

    def reading() -> Rows:
        journal = read()
        return {
            "journal_records": [((), [journal.written])],
            "journal_dropped": [((), [journal.dropped])],
            "journal_bytes": [((), [journal.bytes])],
            "journal_pending": [((), [journal.pending_bytes])],
            "journal_lag": [((), [journal.lag_ns])],
            "journal_sync_lag": [((), [journal.sync_lag_ns])],
        }

    return reading


def upstream_reading(read: Callable[[], Iterable[UpstreamFigures]]) -> Callable[[], Rows]:
    """Connections, streams and events of each replica."""

    def reading() -> Rows:
        upstreams = list(read())
        return {
            "upstream_connections": [
                ((one.replica, state), [count]) for one in upstreams for state, count in one.connections.items()
            ],
            "upstream_streams": [((one.replica,), [one.in_flight]) for one in upstreams],
            "upstream_events": [
                ((one.replica, event), [count]) for one in upstreams for event, count in one.events.items()
            ],
        }

    return reading


def client_reading(count: Callable[[], int]) -> Callable[[], Rows]:
    """Open client connections."""

    def reading() -> Rows:
        return {"client_connections": [((), [count()])]}

    return reading


class ProcessReading:
    """Processor time and resident memory of this process. Errors: OSError where there is no /proc."""

    def __init__(self) -> None:
        # Kept open: a worker that has run out of descriptors is one whose figures are wanted.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._statm)

    def __call__(self) -> Rows:
        resident = int(os.pread(self._statm, 256, 0).split()[1])
        return {"cpu": [((), [time.process_time_ns()])], "memory": [((), [resident * self._page])]}
