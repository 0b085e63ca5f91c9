"""Reading a journal, also while it is being written: records in order, the newest first, or one by its id.

Readers hold one piece of a file per worker. Segments come and go under them: one that a sweep has removed is passed
over. What can't be read is skipped and counted in a Tally, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import contextlib
import heapq
import re
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.journal.frame import HEADER, OVERHEAD, Damage, scan, scan_back
from gateway.journal.record import Record, decode_record
from gateway.journal.segments import Segment, in_use, list_segments

NS = 1_000_000_000
_ID = re.compile("[0-9a-f]{25}")
"""As gateway/ids.py makes them: eleven digits of milliseconds come first."""
SLACK_S = 5.0
"""How far the clocks of ids and of the file system may differ."""


class Tally(Struct):
    """What was passed over: `damaged` and `torn` places and their `bytes`, sound frames that are no record, and
    segments of an unknown format."""

    damaged: int = 0
    torn: int = 0
    bytes: int = 0
    unreadable: int = 0
    unknown: int = 0

    def add(self, damage: Damage, segment: Segment) -> None:
        """The torn tail of a segment in use is a write under way, and no damage."""
        if damage.kind == "torn" and in_use(segment.path):
            return
        setattr(self, damage.kind, getattr(self, damage.kind) + 1)
        self.bytes += damage.size

    def __bool__(self) -> bool:
        return self != Tally()

    def __str__(self) -> str:
        parts = [
            f"{count} {what if count == 1 else what + 's'}"
            for count, what in (
                (self.damaged, "damaged place"),
                (self.torn, "torn tail"),
                (self.unreadable, "unreadable record"),
                (self.unknown, "segment of an unknown format"),
            )
            if count
        ]
        return f"{', '.join(parts)} ({self.bytes} bytes)"


def read(
    folder: Path,
    *,
    newest_first: bool = False,
    since: int = 0,
    ends: Mapping[Path, int] | None = None,
    tally: Tally | None = None,
) -> Iterator[Record]:
    """Records by the time at which they ended, which is the order in which they were written.

    `since` leaves out those that ended before (Unix nanoseconds). `ends`, of `whole_ends`, gives for each segment the
    offset to stop at; segments that are not in it are left out. Errors: OSError when the folder may not be read.
    """
    tally = Tally() if tally is None else tally
    workers: dict[int, list[Segment]] = {}
    for segment in segments_since(folder, since):
        if ends is None or segment.path in ends:
            workers.setdefault(segment.worker, []).append(segment)
    streams = [_stream(segments, newest_first, ends or {}, tally) for segments in workers.values()]
    for record in heapq.merge(*streams, key=ended_at, reverse=newest_first):
        if ended_at(record) >= since:
            yield record
        elif newest_first:
            return


def find(folder: Path, wanted: str) -> list[Record]:
    """The records with this id (the client's, such as chatcmpl-…, too) or with this request id, oldest first."""
    inference = wanted.rpartition("-")[2]
    found: list[Record] = []
    if _ID.fullmatch(inference):
        # Where it must be comes first; the others, in case a copy of the journal has lost its times.
        opening = b'{"id":"%b"' % inference.encode()
        likely, rest = _by_moment(list_segments(folder), int(inference[:11], 16) * 1_000_000)
        found = next(filter(None, (_matching(segment, opening, inference) for segment in likely + rest)), [])
    if not found:
        with contextlib.suppress(UnicodeEncodeError):  # no record has a lone surrogate
            needle = b'"request_id":' + msgspec.json.encode(wanted)
            for segment in list_segments(folder):
                found += _matching(segment, needle, wanted)
    return sorted(found, key=ended_at)


def ended_at(record: Record) -> int:
    """Unix nanoseconds."""
    return record.at + record.ended


def segments_since(folder: Path, since: int) -> list[Segment]:
    """Segments that were written to after `since` (Unix nanoseconds), oldest first."""
    segments = list_segments(folder)
    return [segment for segment in segments if _last_write(segment) >= since - SLACK_S * NS] if since else segments


def payloads(
    segment: Segment,
    tally: Tally,
    *,
    end: int | None = None,
    back: bool = False,
    seen: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """The sound frames of one segment, up to `end`. `seen` hears now and then how many bytes lie behind."""
    with contextlib.suppress(FileNotFoundError), segment.path.open("rb") as file:
        for count, (offset, item) in enumerate(_back(file, end) if back else scan(file)):
            if end is not None and offset >= end:
                return
            if isinstance(item, Damage):
                tally.add(item, segment)
            else:
                yield item
            if seen is not None and not count % 4096:
                seen(offset)


def whole_ends(folder: Path, tally: Tally | None = None) -> dict[Path, int]:
    """Where each segment's last whole frame ends at this moment. `tally` takes what lies after it."""
    ends = {}
    for segment in list_segments(folder):
        with contextlib.suppress(FileNotFoundError), segment.path.open("rb") as file:
            ends[segment.path] = _whole_end(file, segment, Tally() if tally is None else tally)
    return ends


def _whole_end(file: BufferedReader, segment: Segment, tally: Tally) -> int:
    end = file.seek(0, 2)
    for offset, item in scan_back(file, end):
        if isinstance(item, bytes):
            return offset + OVERHEAD + len(item)
        if item.kind == "unknown":
            return end
        tally.add(item, segment)
    return len(HEADER) if end >= len(HEADER) else 0


def _back(file: BufferedReader, end: int | None) -> Iterator[tuple[int, bytes | Damage]]:
    return scan_back(file, file.seek(0, 2) if end is None else end)


def _stream(segments: list[Segment], newest_first: bool, ends: Mapping[Path, int], tally: Tally) -> Iterator[Record]:
    for segment in reversed(segments) if newest_first else segments:
        for payload in payloads(segment, tally, end=ends.get(segment.path), back=newest_first):
            try:
                yield decode_record(payload)
            except msgspec.DecodeError:
                tally.unreadable += 1
                tally.bytes += len(payload)


def _by_moment(segments: list[Segment], moment: int) -> tuple[list[Segment], list[Segment]]:
    # A record is written when it has ended: after its id was made, so never in a segment that was finished before.
    likely = [segment for segment in segments if _last_write(segment) >= moment - SLACK_S * NS]
    return likely, [segment for segment in segments if segment not in likely]


def _last_write(segment: Segment) -> int:
    try:
        return segment.path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _matching(segment: Segment, needle: bytes, wanted: str) -> list[Record]:
    found = []
    for payload in payloads(segment, Tally()):
        if needle in payload:
            with contextlib.suppress(msgspec.DecodeError):
                record = decode_record(payload)
                if wanted in (record.id, record.request_id):
                    found.append(record)
    return found
