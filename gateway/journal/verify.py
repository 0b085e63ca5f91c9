"""Checking a journal: every byte of every segment is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.journal.frame import scan
from gateway.journal.record import decode_record
from gateway.journal.segments import Segment, in_use, list_segments


class Verdict(Struct, frozen=True):
    """One segment. `damaged` are (offset, bytes), `torn` the bytes of a cut tail, `unreadable` the offsets of sound
    frames that hold no record, `unknown` that its format is not known to this Penstock."""

    segment: str
    bytes: int
    frames: int
    damaged: tuple[tuple[int, int], ...]
    torn: int
    unreadable: tuple[int, ...]
    unknown: bool
    in_use: bool

    @property
    def sound(self) -> bool:
        """A torn tail of a segment in use is a write under way."""
        return not (self.damaged or self.unreadable or self.unknown or (self.torn and not self.in_use))


def verify(folder: Path, seen: Callable[[int], None] | None = None) -> Iterator[Verdict]:
    """A verdict on each segment, oldest first. `seen` hears now and then how many bytes of it lie behind.

    Errors: OSError when the folder or a segment may not be read.
    """
    for segment in list_segments(folder):
        try:
            yield _judge(segment, seen)
        except FileNotFoundError:  # swept meanwhile
            continue


def _judge(segment: Segment, seen: Callable[[int], None] | None) -> Verdict:
    busy = in_use(segment.path)  # before reading: what is torn then is a write under way, or its writer's death
    frames = torn = 0
    unknown = False
    damaged: list[tuple[int, int]] = []
    unreadable: list[int] = []
    with segment.path.open("rb") as file:
        for offset, item in scan(file):
            if seen is not None and not frames % 4096:
                seen(offset)
            if isinstance(item, bytes):
                frames += 1
                try:
                    decode_record(item)
                except msgspec.DecodeError:
                    unreadable.append(offset)
            elif item.kind == "torn":
                torn = item.size
            elif item.kind == "unknown":
                unknown = True
            else:
                damaged.append((offset, item.size))
        size = file.tell()
    return Verdict(
        segment=segment.path.name,
        bytes=size,
        frames=frames,
        damaged=tuple(damaged),
        torn=torn,
        unreadable=tuple(unreadable),
        unknown=unknown,
        in_use=busy,
    )
