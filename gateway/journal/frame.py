"""The format of a segment: how records lie in a file, and how they are found again in a damaged one.

    segment  = header frame*
    header   = "PENSTOCK" version:u32 crc:u32           crc32 of the twelve bytes before it
    frame    = F5 F8 FB FE crc:u32 length:u32 payload   crc32 of length and payload together

All integers are little-endian. A payload is UTF-8 (one record as JSON), and the four bytes that open a frame occur
nowhere in UTF-8. So where a frame is unsound the next one is found by searching for those bytes, and a flipped byte
costs its own frame and no other: not even in the length, since the frame that it would reach into begins with them.

What is unsound is told apart: `torn` is a beginning of a frame that the file's end cuts off, which is what a killed
writer leaves; `damaged` is anything else; `unknown` is a header of a format that this Penstock does not know, after
which nothing is read. A flipped length in the very last frame looks like a torn one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, Literal
from zlib import crc32

from msgspec import Struct

FORMAT = 1
MAX_PAYLOAD = 64 << 20
"""Bytes. A larger length is unsound: it bounds what a reader holds at once."""
SYNC = b"\xf5\xf8\xfb\xfe"
PIECE = 1 << 20

_HEADER = struct.Struct("<8sII")
_HEAD = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")
_MAGIC = b"PENSTOCK"
OVERHEAD = _HEAD.size
"""Bytes of a frame beside its payload."""


class Damage(Struct, frozen=True, gc=False):
    """`size` bytes that hold no sound frame."""

    size: int
    kind: Literal["torn", "damaged", "unknown"]


Found = tuple[int, bytes | Damage]
"""An offset in the file and what begins there."""


def header(version: int = FORMAT) -> bytes:
    """What a segment opens with."""
    return _HEADER.pack(_MAGIC, version, crc32(_HEADER.pack(_MAGIC, version, 0)[:12]))


HEADER = header()


def frame(payload: bytes) -> bytes:
    """A payload as it is written. Errors: ValueError above MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes is above {MAX_PAYLOAD}")
    length = _LENGTH.pack(len(payload))
    return b"%b%b%b%b" % (SYNC, _LENGTH.pack(crc32(payload, crc32(length))), length, payload)


def scan(source: bytes | BinaryIO, start: int = 0) -> Iterator[Found]:
    """All frames and all damage from `start` on, which is 0 or where a frame begins. Reads in pieces."""
    reader = _Reader(BytesIO(source) if isinstance(source, bytes) else source, start)
    if start == 0:
        unsound = reader.header()
        if unsound is not None:
            yield 0, unsound
            if unsound.kind != "damaged":
                return
    yield from reader.frames()


def scan_back(file: BinaryIO, end: int) -> Iterator[Found]:
    """As `scan`, from `end` back to the beginning: `end` is the file's, or where a frame ends."""
    file.seek(0)
    if _unknown(file.read(len(HEADER))):
        yield 0, Damage(end, "unknown")
        return
    size = PIECE
    while end > 0:
        start = max(0, end - size)
        file.seek(start)
        data = file.read(end - start)
        first = data.find(SYNC) if start else 0
        if first < 0:  # all of it lies in one frame
            size *= 2
            continue
        found = list(scan(data) if start == 0 else _Reader(BytesIO(data), first).frames())
        for offset, item in reversed(found):
            yield start + offset, item
        end, size = start + first, PIECE


def _unknown(data: bytes) -> bool:
    # A flipped byte of the version is no new format: its crc tells.
    magic, version, _ = _HEADER.unpack_from(data.ljust(_HEADER.size))
    return magic == _MAGIC and version != FORMAT and data.startswith(header(version))


class _Reader:
    """A window on a file: `data` begins at offset `base`, `at` is where we are in it."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.file = file
        self.data = b""
        self.base = start
        self.at = 0
        self.ended = False
        file.seek(start)

    def more(self, wanted: int = PIECE) -> None:
        """Another piece, `wanted` bytes at least unless the file ends; what lies before `at` is let go."""
        piece = self.file.read(max(PIECE, wanted))
        self.ended = not piece
        self.data = self.data[self.at :] + piece
        self.base += self.at
        self.at = 0

    def header(self) -> Damage | None:
        """Step over a header; None when it is sound."""
        while len(self.data) < len(HEADER) and not self.ended:
            self.more()
        if self.data.startswith(HEADER):
            self.at = len(HEADER)
            return None
        if not self.data:  # killed between creating the file and writing its header
            return None
        if HEADER.startswith(self.data):
            return Damage(len(self.data), "torn")
        if _unknown(self.data):
            return Damage(self.file.seek(0, 2), "unknown")
        return Damage(self.skip(), "damaged")

    def frames(self) -> Iterator[Found]:
        """All that follows. The loop is the hot one of every reader: a million frames are usual."""
        while True:
            at, data = self.at, self.data
            view = memoryview(data)
            have = len(data)
            while at + OVERHEAD <= have:
                sync, crc, length = _HEAD.unpack_from(data, at)
                end = at + OVERHEAD + length
                if sync != SYNC or end > have or crc32(view[at + 8 : end]) != crc:
                    break
                yield self.base + at, data[at + OVERHEAD : end]
                at = end
            self.at = at
            missing = self.missing()
            if missing and not self.ended:
                self.more(missing)
            elif at == have:
                return
            else:
                start = self.base + at
                torn = missing > 0 and data.find(SYNC, at + 1) < 0
                size = have - at if torn else self.skip()
                yield start, Damage(size, "torn" if torn else "damaged")
                if torn:
                    return

    def missing(self) -> int:
        """How many bytes the frame at `at` lacks; 0 where there can be no sound frame, whatever follows."""
        rest = len(self.data) - self.at
        if rest < OVERHEAD:
            start = self.data[self.at : self.at + len(SYNC)]
            return OVERHEAD - rest if SYNC.startswith(start) else 0
        length: int
        sync, _, length = _HEAD.unpack_from(self.data, self.at)
        if sync != SYNC or length > MAX_PAYLOAD or self.data.find(SYNC, self.at + 1) >= 0:
            return 0
        return max(0, OVERHEAD + length - rest)

    def skip(self) -> int:
        """Go on to where the next frame may begin, or to the end; the bytes passed over."""
        start = self.base + self.at
        self.at += 1
        while (found := self.data.find(SYNC, self.at)) < 0:
            if self.ended:
                self.at = len(self.data)
                return self.base + self.at - start
            self.at = max(self.at, len(self.data) - len(SYNC) + 1)
            self.more()
        self.at = found
        return self.base + self.at - start
