"""Following a journal that is being written: what has come since the last look."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.journal.frame import OVERHEAD, Damage, scan
from gateway.journal.reader import Tally, ended_at
from gateway.journal.record import Record, decode_record
from gateway.journal.segments import list_segments


class Follower:
    """Looks on from `ends`, as `whole_ends` gave it; segments that are not in it are read from their beginning."""

    def __init__(self, folder: Path, ends: Mapping[Path, int]) -> None:
        self._folder = folder
        self._ends = dict(ends)
        self.skipped = Tally()

    def look(self) -> list[Record]:
        """New records, by the time at which they ended. A frame that is half written waits for the next look."""
        found: list[Record] = []
        ends: dict[Path, int] = {}
        for segment in list_segments(self._folder):
            start = self._ends.get(segment.path, 0)
            ends[segment.path] = start
            with contextlib.suppress(FileNotFoundError):
                if segment.path.stat().st_size > start:
                    ends[segment.path] = self._read(segment.path, start, found)
        self._ends = ends
        return sorted(found, key=ended_at)

    def _read(self, path: Path, start: int, found: list[Record]) -> int:
        with path.open("rb") as file:
            for offset, item in scan(file, start):
                if isinstance(item, Damage):
                    if item.kind == "torn":
                        return offset
                    start = offset + item.size
                    self.skipped.damaged += 1
                    self.skipped.bytes += item.size
                    continue
                start = offset + OVERHEAD + len(item)
                try:
                    found.append(decode_record(item))
                except msgspec.DecodeError:
                    self.skipped.unreadable += 1
        return start
