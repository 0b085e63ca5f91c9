"""The worker's end of the journal: takes a record on the event loop, and never makes it wait.

A record is encoded at once and handed to the disk's thread within FLUSH_S: from then on a kill of this process does
not lose it. What waits for the disk is bounded in bytes; above that the newest records are dropped, and counted.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.journal.disk import Batch, Disk
from gateway.journal.frame import MAX_PAYLOAD, frame
from gateway.journal.privacy import protect
from gateway.journal.record import Record, encode_record

log = logging.getLogger("penstock.journal")

FLUSH_S = 0.005
FLUSH_BYTES = 1 << 20
SAY_EVERY_NS = 10_000_000_000
"""Drops are logged this often at most; the figures are exact."""


class Timers(Protocol):
    """What we need of an event loop."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object: ...


class WriterStats(Struct, frozen=True):
    """Counts since the start. `bytes` are those written, `pending_bytes` those that wait for the disk.

    `lag_ns` is the age of the oldest record that is not yet written, `sync_lag_ns` of the oldest write that is not yet
    synced; 0 when there is none. `segment` is the file being written and `error` why it can't be; "" for neither.
    """

    written: int
    dropped: int
    bytes: int
    pending_bytes: int
    lag_ns: int
    sync_lag_ns: int
    segment: str
    error: str


class JournalWriter:
    """One worker's journal. All methods belong to the loop's thread."""

    def __init__(
        self,
        folder: Path,
        worker: int,
        *,
        loop: Timers,
        segment_bytes: int,
        segment_age_s: float,
        memory_bytes: int,
        redact: tuple[str, ...] = (),
    ) -> None:
        """`redact` are regular expressions, sound by the config. The folder is created with the first segment.

        Errors: re.error.
        """
        self._loop = loop
        self._memory_bytes = memory_bytes
        self._patterns = tuple(re.compile(pattern) for pattern in redact)
        self._disk = Disk(folder, worker, segment_bytes=segment_bytes, segment_age_s=segment_age_s)
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._since = 0
        self._accepted_bytes = 0
        self._dropped = 0
        self._said = -SAY_EVERY_NS
        self._closed = False

    def __repr__(self) -> str:
        return f"<JournalWriter {self.stats}>"

    def append(self, record: Record) -> None:
        """Take a record. Never raises and never blocks; what can't be taken is counted as dropped."""
        try:
            framed = self._frame(record)
        except Exception as cause:  # whatever a client has put into it must not reach the request path
            self._drop(f"it can't be encoded ({type(cause).__name__})")
            return
        if self._closed:
            self._drop("the journal is closed")
            return
        if self._waiting_bytes() + len(framed) > self._memory_bytes:
            self._drop(f"{self._memory_bytes} bytes wait for the disk already")
            return
        self._accepted_bytes += len(framed)
        if not self._pending:
            self._since = time.monotonic_ns()
        self._pending.append(framed)
        self._pending_size += len(framed)
        if self._pending_size >= FLUSH_BYTES:
            self._flush()
        elif len(self._pending) == 1:
            try:
                self._loop.call_later(FLUSH_S, self._flush)
            except RuntimeError:  # a closed loop: nobody will call us again
                self._flush()

    @property
    def stats(self) -> WriterStats:
        """The figures of this moment."""
        disk = self._disk
        now = time.monotonic_ns()
        waits_since = disk.oldest or (self._since if self._pending else 0)
        unsynced_since = disk.syncer.oldest
        return WriterStats(
            written=disk.written,
            dropped=self._dropped + disk.dropped,
            bytes=disk.bytes,
            pending_bytes=self._waiting_bytes(),
            lag_ns=max(0, now - waits_since) if waits_since else 0,
            sync_lag_ns=max(0, now - unsynced_since) if unsynced_since else 0,
            segment=disk.segment,
            error=disk.error or disk.syncer.error,
        )

    def close(self, timeout_s: float = 10.0) -> None:
        """Write all and sync. Blocks, `timeout_s` seconds at most; what a broken disk doesn't take is dropped."""
        if self._closed:
            return
        self._closed = True
        self._flush()
        if not self._disk.stop(timeout_s):
            log.error("journal: the disk did not answer in %g s; %d bytes wait", timeout_s, self._waiting_bytes())

    def _waiting_bytes(self) -> int:
        return self._accepted_bytes - self._disk.bytes - self._disk.dropped_bytes

    def _frame(self, record: Record) -> bytes:
        try:
            payload = encode_record(protect(record, self._patterns))
        except (RecursionError, ValueError, TypeError, OverflowError):
            payload = b""
        if not payload or len(payload) > MAX_PAYLOAD:
            # The record matters more than its content: cost and latency are kept.
            payload = encode_record(protect(replace(record, content="none"), self._patterns))
        return frame(payload)

    def _flush(self) -> None:
        if self._pending:
            self._disk.put(Batch(self._since, self._pending))
            self._pending = []
            self._pending_size = 0

    def _drop(self, why: str) -> None:
        self._dropped += 1
        now = time.monotonic_ns()
        if now - self._said >= SAY_EVERY_NS:
            self._said = now
            log.error("journal: a record was dropped, %d so far: %s", self._dropped, why)
