"""The format under damage: what is lost, and above all what is not."""

from __future__ import annotations

import random
from io import BytesIO
from itertools import pairwise

import pytest

from gateway.journal import frame as module
from gateway.journal.frame import HEADER, OVERHEAD, SYNC, Damage, frame, header, scan, scan_back

PAYLOADS = [b'{"id":"%d","text":"%s"}' % (number, b"x" * (number * 7 % 23)) for number in range(6)] + [b"", b"last"]
SEGMENT = HEADER + b"".join(map(frame, PAYLOADS))


def bounds() -> list[int]:
    edges = [len(HEADER)]
    for payload in PAYLOADS:
        edges.append(edges[-1] + OVERHEAD + len(payload))
    return edges


EDGES = bounds()


@pytest.fixture(params=[1, 5, 64, 1 << 20])
def _piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", request.param)


def sound(found: list[module.Found]) -> list[bytes]:
    return [item for _, item in found if isinstance(item, bytes)]


def unsound(found: list[module.Found]) -> list[tuple[int, Damage]]:
    return [(offset, item) for offset, item in found if isinstance(item, Damage)]


@pytest.mark.usefixtures("_piece")
def test_all_frames_with_their_offsets_both_ways() -> None:
    found = list(scan(SEGMENT))
    assert found == list(zip(EDGES, PAYLOADS, strict=False))
    assert list(scan_back(BytesIO(SEGMENT), len(SEGMENT))) == found[::-1]
    for start, rest in zip(EDGES, range(len(PAYLOADS) + 1), strict=True):
        assert list(scan(SEGMENT, start)) == found[rest:]
        assert list(scan_back(BytesIO(SEGMENT), start)) == found[:rest][::-1]


@pytest.mark.usefixtures("_piece")
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_costs_its_own_frame_only(flip: int) -> None:
    for place in range(len(SEGMENT)):
        data = bytearray(SEGMENT)
        data[place] ^= flip
        hurt = next((index for index, (low, high) in enumerate(pairwise(EDGES)) if low <= place < high), None)
        left = [payload for index, payload in enumerate(PAYLOADS) if index != hurt]
        found = list(scan(bytes(data)))
        assert sound(found) == left, place
        ((offset, damage),) = unsound(found)
        low, high = (0, len(HEADER)) if hurt is None else (EDGES[hurt], EDGES[hurt + 1])
        assert (offset, damage.size) == (low, high - low), place
        # In the last frame a greater length can't be told from a cut.
        assert damage.kind == "damaged" or hurt == len(PAYLOADS) - 1, place
        backwards = list(scan_back(BytesIO(bytes(data)), len(data)))
        assert sound(backwards) == left[::-1], place


@pytest.mark.usefixtures("_piece")
def test_a_cut_at_every_length_leaves_the_whole_frames_and_says_how_much_is_torn() -> None:
    for length in range(len(SEGMENT) + 1):
        found = list(scan(SEGMENT[:length]))
        whole = sum(edge <= length for edge in EDGES[1:])
        assert sound(found) == PAYLOADS[:whole], length
        last = max((edge for edge in [0, *EDGES] if edge <= length), default=0)
        torn = [(last, Damage(length - last, "torn"))] if length > last else []
        assert unsound(found) == torn, length
        assert list(scan_back(BytesIO(SEGMENT[:length]), length)) == found[::-1], length


@pytest.mark.usefixtures("_piece")
@pytest.mark.parametrize("inserted", [b"\0" * 40, SYNC, SYNC * 5, frame(b"y")[:-1], b"{"])
def test_what_was_put_between_frames_costs_none(inserted: bytes) -> None:
    for edge in EDGES[:-1]:
        data = SEGMENT[:edge] + inserted + SEGMENT[edge:]
        found = list(scan(data))
        assert sound(found) == PAYLOADS
        assert {damage.kind for _, damage in unsound(found)} == {"damaged"}
        assert sum(damage.size for _, damage in unsound(found)) == len(inserted)


def test_noise_never_raises_and_every_byte_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    for _ in range(300):
        monkeypatch.setattr(module, "PIECE", chance.choice([3, 50, 1000]))
        data = bytearray(SEGMENT)
        for _ in range(chance.randrange(12)):
            place = chance.randrange(len(data))
            data[place : place + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
        at = len(HEADER) if bytes(data).startswith(HEADER) else 0
        for offset, item in scan(bytes(data)):
            assert offset == at
            at = offset + (item.size if isinstance(item, Damage) else OVERHEAD + len(item))
        assert at == len(data)


def test_an_unknown_format_is_left_alone() -> None:
    data = header(2) + SEGMENT[len(HEADER) :]
    assert list(scan(data)) == [(0, Damage(len(data), "unknown"))]
    assert list(scan_back(BytesIO(data), len(data))) == [(0, Damage(len(data), "unknown"))]


def test_a_payload_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAYLOAD", 10)
    assert sound(list(scan(HEADER + frame(b"0123456789")))) == [b"0123456789"]
    with pytest.raises(ValueError, match="11 bytes"):
        frame(b"0123456789a")


class Counting(BytesIO):
    """A file that remembers its largest read."""

    largest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def test_a_large_file_is_read_in_pieces() -> None:
    payload = b"z" * 3000
    file = Counting(HEADER + frame(payload) * 2000)
    assert sum(1 for _ in scan(file)) == 2000
    assert sum(1 for _ in scan_back(file, len(file.getvalue()))) == 2000
    assert file.largest <= module.PIECE
