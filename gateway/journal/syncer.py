"""The thread that brings what was written to the disk. It has no other work, so a slow disk delays no write."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue

from gateway.journal.appender import Appender

log = logging.getLogger("penstock.journal")

EVERY_S = 0.1


class Syncer:
    """Syncs a segment EVERY_S after its first unsynced write, and once more when it is retired; then it closes it."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._queue: SimpleQueue[tuple[Appender, bool] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="penstock-journal-sync", daemon=True)
        self.oldest = 0
        """When the oldest unsynced byte was written, monotonic nanoseconds; 0 when there is none."""
        self.error = ""
        self._thread.start()

    def wrote(self, segment: Appender) -> None:
        """Called after each write: the order lets `_sync` clear the mark first and miss nothing."""
        if not segment.dirty_since:
            segment.dirty_since = time.monotonic_ns()
            self._queue.put((segment, False))

    def retire(self, segment: Appender) -> None:
        """Nothing more is written to it."""
        self._queue.put((segment, True))

    def stop(self) -> None:
        """Blocks until everything is synced."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        waiting: list[Appender] = []
        while True:
            self.oldest = waiting[0].dirty_since if waiting else 0
            try:
                item = self._queue.get(timeout=self._patience(waiting))
            except Empty:
                self._sync(waiting.pop(0))
                continue
            if item is None:
                break
            segment, retired = item
            if not retired:
                waiting.append(segment)
                continue
            if segment in waiting:
                waiting.remove(segment)
            self._sync(segment)
            segment.close()
        for segment in waiting:
            self._sync(segment)
        self.oldest = 0

    def _patience(self, waiting: list[Appender]) -> float | None:
        if not waiting:
            return None
        return max(0.0, waiting[0].dirty_since / 1e9 + self._every_s - time.monotonic())

    def _sync(self, segment: Appender) -> None:
        if not segment.dirty_since:
            return
        segment.dirty_since = 0
        try:
            segment.sync()
        except OSError as error:
            # The kernel tells once and forgets: what this segment holds since its last sync can't be relied on.
            segment.doubtful = True
            self.error = f"{segment.path.name}: {error.strerror}"
            log.error("journal: the last moments of %s may be lost: %s", segment.path, error.strerror)
        else:
            self.error = ""
