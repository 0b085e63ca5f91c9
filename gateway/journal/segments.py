"""The files of a journal: their names, their order, which are in use, and which have been kept long enough.

A writer holds a flock on the segment that it writes. The lock goes with its process, however that ends, so nobody
has to clean up after a killed one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

_NAME = re.compile(r"(\d{3,6})-(\d{8}T\d{12})Z-(\d{1,10})\.seg", re.ASCII)
_TIME = "%Y%m%dT%H%M%S%f"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Segment(Struct, frozen=True):
    """One file. `start` is when it was begun, Unix microseconds; `pid` is its writer's."""

    path: Path
    worker: int
    start: int
    pid: int


def journal_folder(state: Path) -> Path:
    """Where the journal of a state folder lies."""
    return state / "journal"


def segment_name(worker: int, start: int, pid: int) -> str:
    """`start` is in Unix microseconds. Names of one worker sort by time."""
    return f"{worker:03d}-{(_EPOCH + timedelta(microseconds=start)).strftime(_TIME)}Z-{pid}.seg"


def list_segments(folder: Path) -> list[Segment]:
    """All segments, oldest first; none where there is no folder. Errors: OSError when it may not be read."""
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return []
    found = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match:
            start = _start_of(match[2])
            if start is not None:
                found.append(Segment(path, int(match[1]), start, int(match[3])))
    return sorted(found, key=lambda one: (one.start, one.worker, one.pid))


def in_use(path: Path) -> bool:
    """Whether a live process writes it. One whose lock cannot be asked for counts as in use."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(folder: Path, keep_s: float | None, keep_bytes: int | None, now: float) -> list[Path]:
    """Remove segments last written more than `keep_s` seconds before `now` (Unix seconds), then the oldest ones
    until all together have `keep_bytes` at most; None keeps without that limit. Never one that is being written.

    Errors: OSError when the folder may not be changed.
    """
    kept: list[tuple[Path, int]] = []
    removed: list[Path] = []
    for segment in list_segments(folder):
        try:
            stat = segment.path.stat()
        except FileNotFoundError:
            continue
        old = keep_s is not None and stat.st_mtime < now - keep_s
        if old and _remove(segment.path):
            removed.append(segment.path)
        else:
            kept.append((segment.path, stat.st_size))
    if keep_bytes is not None:
        total = sum(size for _, size in kept)
        for path, size in kept:
            if total <= keep_bytes:
                break
            if _remove(path):
                removed.append(path)
                total -= size
    return removed


def _remove(path: Path) -> bool:
    # Under the lock: a writer that has just created the file waits for it, and then sees that the file is gone.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            return True
    finally:
        os.close(fd)
    return False


def _start_of(text: str) -> int | None:
    try:
        moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:  # digits, but no date
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1)
