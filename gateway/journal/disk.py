"""The thread that writes: batches of frames into segments, in order, again and again until they are in.

It alone decides on segments: when one is full, old, or in doubt the next one is begun. A failed write costs a pause,
from 0.1 s growing to 1 s, and no record; what waits meanwhile is bounded by the writer's memory, not here.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue

from msgspec import Struct

from gateway.journal.appender import Appender, Cut
from gateway.journal.syncer import Syncer

log = logging.getLogger("penstock.journal")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Batch(Struct):
    """Frames that are written together. `since` is when the first was appended, monotonic nanoseconds."""

    since: int
    frames: list[bytes]


class Disk:
    """Its figures are written by its thread alone; others may read them at any time."""

    def __init__(self, folder: Path, worker: int, *, segment_bytes: int, segment_age_s: float) -> None:
        """A segment takes no more once it has `segment_bytes`, or was begun `segment_age_s` seconds ago."""
        self._folder = folder
        self._worker = worker
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._backlog: deque[Batch] = deque()
        self._segment: Appender | None = None
        self._pause_s = 0.0
        self._retry_at = 0.0
        self.written = 0
        self.bytes = 0
        self.dropped = 0
        self.dropped_bytes = 0
        self.oldest = 0
        """When the oldest record that is not yet written was appended, monotonic nanoseconds; 0 when all are."""
        self.segment = ""
        self.error = ""
        self.syncer = Syncer()
        self._thread = threading.Thread(target=self._run, name="penstock-journal", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Disk {self.segment or '(no segment)'} written={self.written} error={self.error!r}>"

    def put(self, batch: Batch) -> None:
        """Never blocks."""
        self._queue.put(batch)

    def stop(self, timeout_s: float) -> bool:
        """Write what is there, sync, end; False when that took longer. What can't be written now is dropped."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                batch = self._queue.get(timeout=self._patience())
            except Empty:
                pass
            else:
                if batch is None:
                    stopping = True
                else:
                    self._backlog.append(batch)
            self.oldest = self._backlog[0].since if self._backlog else 0
            if self._backlog and (stopping or time.monotonic() >= self._retry_at):
                self._write()
            if self._segment is not None and time.monotonic() >= self._segment.opened + self._segment_age_s:
                self._retire()
        self._give_up()
        self._retire()
        self.syncer.stop()

    def _patience(self) -> float | None:
        """Seconds until there is something to do even if nothing comes; None when there is not."""
        moments = []
        if self._backlog:
            moments.append(self._retry_at)
        if self._segment is not None:
            moments.append(self._segment.opened + self._segment_age_s)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _write(self) -> None:
        """All that waits, or up to the first failure."""
        while self._backlog:
            batch = self._backlog[0]
            try:
                segment = self._writable()
                segment.append(batch.frames)
            except Cut as cut:
                self._wrote(batch, cut.whole)
                self._failed(cut.cause, cut.sound)
                return
            except Exception as cause:  # a defect here must not end the thread, and with it the journal
                self._failed(cause, True)
                return
            self._wrote(batch, len(batch.frames))
            self._recovered()
        self.oldest = 0

    def _writable(self) -> Appender:
        if self._segment is not None and (self._segment.doubtful or self._segment.size >= self._segment_bytes):
            self._retire()
        if self._segment is None:
            self._segment = Appender(self._folder, self._worker)
            self.segment = self._segment.path.name
        return self._segment

    def _wrote(self, batch: Batch, count: int) -> None:
        if count and self._segment is not None:
            self.written += count
            self.bytes += sum(map(len, batch.frames[:count]))
            self.syncer.wrote(self._segment)
        if count == len(batch.frames):
            self._backlog.popleft()
        else:
            del batch.frames[:count]
        self.oldest = self._backlog[0].since if self._backlog else 0

    def _failed(self, cause: Exception, sound: bool) -> None:
        # A full disk may have room again, so its segment waits; any other trouble may be the segment's own.
        if not sound or not isinstance(cause, OSError) or cause.errno not in _NO_SPACE:
            self._retire()
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or FIRST_PAUSE_S)
        self._retry_at = time.monotonic() + self._pause_s
        text = cause.strerror or str(cause) if isinstance(cause, OSError) else f"defect: {cause!r}"
        if text != self.error:
            self.error = text
            defect = None if isinstance(cause, OSError) else cause
            log.error("journal: can't write to %s: %s; records wait in memory", self._folder, text, exc_info=defect)

    def _recovered(self) -> None:
        self._pause_s = self._retry_at = 0.0
        if self.error:
            self.error = ""
            log.warning("journal: writing to %s again", self._folder)

    def _retire(self) -> None:
        if self._segment is not None:
            self.syncer.retire(self._segment)
            self._segment = None
            self.segment = ""

    def _give_up(self) -> None:
        for batch in self._backlog:
            self.dropped += len(batch.frames)
            self.dropped_bytes += sum(map(len, batch.frames))
        if self._backlog:
            log.error("journal: %d records could not be written before the end: %s", self.dropped, self.error)
        self._backlog.clear()
        self.oldest = 0
