"""One segment while it is being written. It always ends with a whole frame, or says that it may not."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.journal.frame import HEADER
from gateway.journal.segments import segment_name


class Cut(Exception):
    """A write ended early. `whole` frames are in the segment; `sound` says that nothing lies after them."""

    def __init__(self, whole: int, sound: bool, cause: OSError) -> None:
        super().__init__(str(cause))
        self.whole = whole
        self.sound = sound
        self.cause = cause


class Appender:
    """A new segment, open and locked. Written by one thread, synced by another.

    `dirty_since` is when its oldest unsynced byte was written (monotonic nanoseconds), 0 when all is synced.
    `doubtful` is set when a sync failed: what it holds of the last moments may be lost, and nothing more goes there.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        """Creates the folder too. Files are the owner's alone: they hold prompts. Errors: OSError, nothing is left."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path, self._fd = _create(folder, worker)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self.check_linked()  # a sweep may have come before the lock
            if os.write(self._fd, HEADER) != len(HEADER):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            raise
        self.size = len(HEADER)
        self.opened = time.monotonic()
        self.dirty_since = 0
        self.doubtful = False
        self._named = False

    def __repr__(self) -> str:
        return f"<Appender {self.path.name} size={self.size} doubtful={self.doubtful}>"

    def append(self, frames: Sequence[bytes]) -> None:
        """All of them, in one write unless the kernel takes less. Errors: Cut."""
        data = memoryview(b"".join(frames))
        done = 0
        try:
            while done < len(data):
                written = os.write(self._fd, data[done:])
                if not written:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                done += written
        except OSError as cause:
            whole = kept = 0
            for one in frames:
                if kept + len(one) > done:
                    break
                kept += len(one)
                whole += 1
            self.size += kept
            raise Cut(whole, done == kept or self._cut_back(), cause) from cause
        self.size += done

    def _cut_back(self) -> bool:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Blocks until the disk has it, at the first time the name as well. Errors: OSError."""
        os.fdatasync(self._fd)
        self.check_linked()
        if not self._named:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._named = True

    def check_linked(self) -> None:
        """Errors: FileNotFoundError when somebody has removed the file: what goes there is lost."""
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the segment was removed while it was written", str(self.path))

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._fd)


def _create(folder: Path, worker: int) -> tuple[Path, int]:
    start = time.time_ns() // 1000
    while True:
        path = folder / segment_name(worker, start, os.getpid())
        try:
            return path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:  # the clock went back, or stood still
            start += 1
