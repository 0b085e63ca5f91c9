"""Reading, finding, following and verifying."""

from __future__ import annotations

import fcntl
import os
from itertools import islice
from pathlib import Path

import pytest

from gateway.journal import frame as frame_module
from gateway.journal import reader as reader_module
from gateway.journal.follow import Follower
from gateway.journal.frame import HEADER, frame, header
from gateway.journal.reader import Tally, ended_at, find, read, whole_ends
from gateway.journal.record import Record, encode_record
from gateway.journal.verify import verify
from tests.journal.records import AT, MS, make_record, write_segment


@pytest.fixture
def spread(tmp_path: Path) -> tuple[Path, list[Record]]:
    """120 records over three workers and, for each, two segments; each as long under way as its neighbours."""
    records = [make_record(number, worker=number % 3) for number in range(120)]
    for worker in range(3):
        mine = [record for record in records if record.worker == worker]
        write_segment(tmp_path, mine[:15], worker=worker, start=AT // 1000 + worker)
        write_segment(tmp_path, mine[15:], worker=worker, start=AT // 1000 + 45_000, pid=2)
    return tmp_path, records


@pytest.mark.parametrize("piece", [200, 1 << 20])
def test_merged_by_time_both_ways(
    spread: tuple[Path, list[Record]], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_module, "PIECE", piece)
    folder, records = spread
    assert list(read(folder)) == records
    assert list(read(folder, newest_first=True)) == records[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("count", [0, 1, 50, 120])
def test_since(spread: tuple[Path, list[Record]], count: int, newest_first: bool) -> None:
    folder, records = spread
    since = ended_at(records[-count]) if count else ended_at(records[-1]) + 1
    wanted = records[len(records) - count :]
    assert list(read(folder, since=since, newest_first=newest_first)) == wanted[:: -1 if newest_first else 1]


def test_the_last_few_do_not_cost_the_whole_journal(
    spread: tuple[Path, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_module, "PIECE", 1000)
    decoded = []
    monkeypatch.setattr(reader_module, "decode_record", lambda data: decoded.append(1) or decode(data))
    folder, records = spread
    assert list(islice(read(folder, newest_first=True), 4)) == records[:-5:-1]
    assert len(decoded) < 10


decode = reader_module.decode_record


def test_no_journal(tmp_path: Path) -> None:
    assert list(read(tmp_path / "none")) == []
    assert find(tmp_path / "none", "anything") == []
    assert list(verify(tmp_path / "none")) == []
    assert Follower(tmp_path / "none", {}).look() == []


@pytest.mark.parametrize("form", ["{id}", "chatcmpl-{id}", "cmpl-{id}", "{request}"])
def test_find(spread: tuple[Path, list[Record]], form: str) -> None:
    folder, records = spread
    for record in records[::17]:
        assert find(folder, form.format(id=record.id, request=record.request_id)) == [record]


@pytest.mark.parametrize("unknown", ["", "x", "f" * 25, "0" * 25, "req", '"', "\udc80", "é" * 25, "req-1\n"])
def test_find_what_is_not_there(spread: tuple[Path, list[Record]], unknown: str) -> None:
    assert find(spread[0], unknown) == []


def test_an_id_that_a_client_has_quoted_is_not_found_in_its_text(tmp_path: Path) -> None:
    one = make_record(1)
    quoting = make_record(2, prompts=(f'{{"id":"{one.id}"', f'"request_id":"{one.request_id}"'))
    write_segment(tmp_path, [quoting, one])
    assert find(tmp_path, one.id) == [one]
    assert find(tmp_path, one.request_id) == [one]


def test_all_that_share_a_request_id_are_found(tmp_path: Path) -> None:
    records = [make_record(number, request_id="again") for number in range(3)]
    write_segment(tmp_path, records)
    assert find(tmp_path, "again") == records


def test_segments_that_ended_before_the_id_was_made_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    payloads = reader_module.payloads
    monkeypatch.setattr(
        reader_module, "payloads", lambda segment, tally: opened.append(segment.start) or payloads(segment, tally)
    )
    seconds = 60_000
    for minute in range(5):
        record = make_record(minute * seconds)
        path = write_segment(tmp_path, [record], start=AT // 1000 + minute * seconds * 1000)
        os.utime(path, ns=(ended_at(record), ended_at(record)))
    wanted = make_record(3 * seconds)
    assert find(tmp_path, wanted.id) == [wanted]
    assert opened == [AT // 1000 + 3 * seconds * 1000]
    # A copy that has lost its times is slower, and no less complete.
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert find(tmp_path, wanted.id) == [wanted]


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    one, two, three = (encode_record(make_record(number)) for number in range(3))
    damaged = bytearray(frame(two))
    damaged[30] ^= 1
    write_segment(tmp_path, []).write_bytes(
        HEADER + frame(one) + bytes(damaged) + frame(b"{}") + frame(three) + frame(one)[:-7]
    )
    write_segment(tmp_path, [], start=AT // 1000 - 1).write_bytes(header(9) + frame(one))
    for newest_first in (False, True):
        tally = Tally()
        assert len(list(read(tmp_path, newest_first=newest_first, tally=tally))) == 2
        assert (tally.damaged, tally.torn, tally.unreadable, tally.unknown) == (1, 1, 1, 1)
        assert str(tally).startswith(
            "1 damaged place, 1 torn tail, 1 unreadable record, 1 segment of an unknown format"
        )
    assert not Tally()


def test_a_field_of_a_later_version_is_skipped(tmp_path: Path) -> None:
    payload = encode_record(make_record())[:-1] + b',"mood":{"later":[1]}}'
    write_segment(tmp_path, []).write_bytes(HEADER + frame(payload))
    assert list(read(tmp_path)) == [make_record()]


def test_verify_accounts_for_every_byte(tmp_path: Path) -> None:
    payloads = [encode_record(make_record(number)) for number in range(4)]
    frames = [frame(payload) for payload in payloads]
    offsets = [len(HEADER) + sum(map(len, frames[:number])) for number in range(5)]
    flipped = bytearray(HEADER + b"".join(frames))
    flipped[offsets[2] + 50] ^= 0x10
    segments = {
        0: HEADER + b"".join(frames),
        1: bytes(flipped),
        2: HEADER + b"".join(frames)[:-1],
        3: HEADER + frame(b"[]"),
        4: header(2) + frames[0],
        5: HEADER,
        6: b"",
    }
    for number, data in segments.items():
        write_segment(tmp_path, [], start=AT // 1000 + number).write_bytes(data)
    found = list(verify(tmp_path))
    assert [verdict.sound for verdict in found] == [True, False, False, False, False, True, True]
    assert [verdict.bytes for verdict in found] == [len(data) for data in segments.values()]
    assert [verdict.frames for verdict in found] == [4, 3, 3, 1, 0, 0, 0]
    assert found[1].damaged == ((offsets[2], len(frames[2])),)
    assert found[2].torn == len(frames[3]) - 1
    assert found[3].unreadable == (len(HEADER),)
    assert found[4].unknown


def test_a_write_under_way_is_no_damage(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [make_record()])
    ends = whole_ends(tmp_path)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(frame(encode_record(make_record(1)))[:-1])
        file.flush()
        tally = Tally()
        assert list(read(tmp_path, tally=tally)) == [make_record()]
        assert not tally
        (verdict,) = verify(tmp_path)
        assert verdict.sound
        assert verdict.in_use
        assert whole_ends(tmp_path) == ends
    (verdict,) = verify(tmp_path)
    assert not verdict.sound
    assert verdict.torn


def test_following_sees_each_record_once_whatever_pieces_it_comes_in(tmp_path: Path) -> None:
    first = write_segment(tmp_path, [make_record(0), make_record(1)])
    ends = whole_ends(tmp_path)
    follower = Follower(tmp_path, ends)
    assert follower.look() == []
    assert list(read(tmp_path, newest_first=True, ends=ends)) == [make_record(1), make_record(0)]
    data = b"".join(frame(encode_record(make_record(number))) for number in range(2, 6))
    seen: list[Record] = []
    with first.open("ab", buffering=0) as file:
        for start in range(0, len(data), 97):
            file.write(data[start : start + 97])
            seen += follower.look()
    assert seen == [make_record(number) for number in range(2, 6)]
    # A segment that begins later is read from its start, even while its header is being written.
    second = write_segment(tmp_path, [], worker=1, start=AT // 1000 + 1)
    second.write_bytes(HEADER[:5])
    assert follower.look() == []
    write_segment(tmp_path, [make_record(7)], worker=1, start=AT // 1000 + 1)
    write_segment(tmp_path, [make_record(6)], worker=2, start=AT // 1000 + 2)
    assert follower.look() == [make_record(6), make_record(7)]
    second.unlink()
    assert follower.look() == []
    # What is written after the ends were taken is the follower's, not the reader's.
    assert list(read(tmp_path, ends=ends)) == [make_record(0), make_record(1)]


@pytest.mark.parametrize("length", range(len(HEADER) + 3))
def test_following_from_a_header_that_was_not_yet_whole(tmp_path: Path, length: int) -> None:
    whole = write_segment(tmp_path, [make_record()]).read_bytes()
    (path,) = tmp_path.iterdir()
    path.write_bytes(whole[:length])
    follower = Follower(tmp_path, whole_ends(tmp_path))
    path.write_bytes(whole)
    assert follower.look() == [make_record()]


def test_following_passes_over_damage_and_counts_it(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [])
    follower = Follower(tmp_path, whole_ends(tmp_path))
    with path.open("ab") as file:
        file.write(b"noise" + frame(b"{}") + frame(encode_record(make_record())))
    assert follower.look() == [make_record()]
    assert (follower.skipped.damaged, follower.skipped.bytes, follower.skipped.unreadable) == (1, 5, 1)
    assert follower.look() == []


def test_records_are_read_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    slow = make_record(0, ended=100 * MS)
    quick = make_record(50, ended=2 * MS, worker=1)
    write_segment(tmp_path, [slow], worker=0)
    write_segment(tmp_path, [quick], worker=1)
    assert list(read(tmp_path)) == [quick, slow]
