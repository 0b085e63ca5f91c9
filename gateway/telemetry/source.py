"""Where the exporter's records come from: the journal's segments, some at a time, from a position that can be kept.

The journal is the exporter's queue. Nothing else is held: what can't be exported now is read again later, and what the
journal's retention removes before that is counted as lost.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta, Struct

from gateway.journal.frame import OVERHEAD, Damage, scan
from gateway.journal.reader import segments_since
from gateway.journal.record import Record, decode_record
from gateway.journal.segments import list_segments
from gateway.telemetry.selection import Glance, Selection

log = logging.getLogger("penstock.traces")

_GLANCE = msgspec.json.Decoder(Glance)
_POLL_BYTES = 4 << 20
_FORMAT = 1


class _Position(Struct, frozen=True):
    format: int
    ends: dict[str, Annotated[int, Meta(ge=0)]]  # by the names of segments


class Source(Protocol):
    """What the exporter follows. Called from its thread only."""

    def poll(self) -> tuple[bool, list[Record]]:
        """Whether there was anything new to read, and those of it that are to be exported: some, not all at once.
        The same again until `advance`. Errors: OSError when it can't be read now."""

    def advance(self) -> None:
        """All that was polled has been seen to: the next poll, and a later start, go on behind it. Errors: OSError
        when a later start will not."""


class JournalSource:
    """Follows `folder` and keeps its position in `kept`, a small file.

    Without a position it begins with records that ended after `since` (Unix nanoseconds). A position is kept after its
    records were exported, so one that gets lost costs spans that come twice, and none that don't come.

    Attributes:
        unreadable: places that hold no sound record.
        lost_bytes: of segments that were removed before they were read.
    """

    def __init__(self, folder: Path, kept: Path, selection: Selection, *, since: int = 0) -> None:
        self.unreadable = 0
        self.lost_bytes = 0
        self._folder = folder
        self._kept = kept
        self._selection = selection
        self._since = 0
        ends = _read_position(kept)
        if ends is None:
            late = {segment.path for segment in segments_since(folder, since)}
            old = [segment.path for segment in list_segments(folder) if segment.path not in late]
            ends, self._since = {path.name: _size(path) for path in old}, since
        self._ends = self._next = ends
        self._sizes: dict[str, int] = {}

    def poll(self) -> tuple[bool, list[Record]]:
        """See `Source`."""
        found: list[Record] = []
        ends, budget = self._look(), _POLL_BYTES
        for name, start in ends.items():
            if self._sizes[name] > start and budget > 0:
                ends[name] = self._read(self._folder / name, start, budget, found)
                budget -= ends[name] - start
        self._next = ends
        return budget < _POLL_BYTES, found

    def advance(self) -> None:
        """See `Source`. The file is replaced as a whole."""
        self._ends = self._next
        partial = self._kept.with_name(f"{self._kept.name}.new")
        partial.write_bytes(msgspec.json.encode(_Position(_FORMAT, self._ends)))
        partial.replace(self._kept)

    def _look(self) -> dict[str, int]:
        # Where to go on in each segment; those that are gone are left out.
        sizes = {segment.path.name: _size(segment.path) for segment in list_segments(self._folder)}
        for name, size in self._sizes.items():
            if name not in sizes:
                self._lose(size - self._ends.get(name, 0))
        self._sizes = sizes
        return {name: self._ends.get(name, 0) for name in sizes}

    def _lose(self, size: int) -> None:
        if size > 0:
            self.lost_bytes += size
            log.warning("%d bytes of the journal were removed before their spans were exported", size)

    def _read(self, path: Path, start: int, budget: int, found: list[Record]) -> int:
        # Returns where to go on: at a frame that is half written, or behind the budget's last.
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return start  # the next look counts it
        end = start
        with file:
            for offset, item in scan(file, start):
                if isinstance(item, Damage):
                    if item.kind == "torn":
                        return offset
                    self.unreadable += 1
                    end = offset + item.size
                    continue
                end = offset + OVERHEAD + len(item)
                self._take(item, found)
                if end - start >= budget:
                    break
        return end

    def _take(self, payload: bytes, found: list[Record]) -> None:
        try:
            glance = _GLANCE.decode(payload)
            if glance.at + glance.ended >= self._since and self._selection.keeps(glance):
                found.append(decode_record(payload))
        except msgspec.DecodeError:
            self.unreadable += 1


def _read_position(kept: Path) -> dict[str, int] | None:
    """Segment names and offsets; None where there is no such file, or none of ours."""
    try:
        found = msgspec.json.decode(kept.read_bytes(), type=_Position)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found.ends if found.format == _FORMAT else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
