"""The journal as the exporter's queue: read some at a time, from a position that outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.journal.frame import HEADER, frame
from gateway.journal.record import Record, encode_record
from gateway.journal.segments import segment_name
from gateway.telemetry import source as source_module
from gateway.telemetry.selection import Selection
from gateway.telemetry.source import JournalSource
from tests.telemetry.records import AT, answered

ALL = Selection(share=1.0, slow_s=10.0)


class Journal:
    """A journal that a test writes by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        self.folder.mkdir()
        self.kept = folder / "traces.json"

    def path(self, worker: int = 1, start: int = 0) -> Path:
        return self.folder / segment_name(worker, AT // 1000 + start, 4711)

    def write(self, *ids: str, worker: int = 1, start: int = 0, at: int = AT) -> None:
        self.append(b"".join(frame(encode_record(answered(id=one, at=at))) for one in ids), worker=worker, start=start)

    def append(self, data: bytes, *, worker: int = 1, start: int = 0) -> None:
        path = self.path(worker, start)
        with path.open("ab") as file:
            file.write(data if file.tell() else HEADER + data)

    def source(self, selection: Selection = ALL, since: int = 0) -> JournalSource:
        return JournalSource(self.folder, self.kept, selection, since=since)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def take(source: JournalSource) -> list[str]:
    """The ids of one poll, seen to."""
    _, records = source.poll()
    source.advance()
    return ids(records)


def ids(records: list[Record]) -> list[str]:
    return [record.id for record in records]


def test_all_segments_and_what_comes_later(journal: Journal) -> None:
    source = journal.source()
    assert source.poll() == (False, [])
    journal.write("a", "b")
    journal.write("c", worker=2)
    assert take(source) == ["a", "b", "c"]
    assert source.poll() == (False, [])
    journal.write("d", worker=2)
    journal.write("e", start=1)
    assert take(source) == ["d", "e"]


def test_the_same_again_until_it_was_seen_to(journal: Journal) -> None:
    journal.write("a")
    source = journal.source()
    assert ids(source.poll()[1]) == ids(source.poll()[1]) == ["a"]
    source.advance()
    assert source.poll() == (False, [])


def test_a_later_start_goes_on(journal: Journal) -> None:
    journal.write("a", "b")
    assert take(journal.source()) == ["a", "b"]
    journal.write("c")
    source = journal.source(since=AT * 2)
    assert take(source) == ["c"], "the position counts, not the time"
    assert take(journal.source()) == []


def test_what_was_not_seen_to_comes_again(journal: Journal) -> None:
    journal.write("a")
    assert ids(journal.source().poll()[1]) == ["a"]
    assert ids(journal.source().poll()[1]) == ["a"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "ends": {}}', '{"format": 1, "ends": {"a": -1}}'])
def test_a_position_that_is_none(journal: Journal, content: str) -> None:
    journal.kept.write_text(content)
    journal.write("a")
    assert take(journal.source()) == ["a"]


def test_without_a_position_it_begins_with_what_ended_lately(journal: Journal) -> None:
    journal.write("old")
    journal.write("late", at=AT + 10**9)
    assert take(journal.source(since=AT + 10**9)) == ["late"]


def test_only_what_is_selected(journal: Journal) -> None:
    journal.write("a")
    source = journal.source(Selection(share=0.0, slow_s=10.0))
    assert take(source) == ["a"], "its caller samples"
    journal.append(frame(encode_record(answered(id="b", trace=None))))
    assert source.poll() == (True, [])


def test_a_half_written_frame_waits(journal: Journal) -> None:
    journal.write("a")
    whole = frame(encode_record(answered(id="b")))
    journal.append(whole[:30])
    source = journal.source()
    assert take(source) == ["a"]
    assert source.poll() == (False, [])
    journal.append(whole[30:])
    assert take(source) == ["b"]
    assert source.unreadable == 0


def test_damage_is_counted_and_passed(journal: Journal) -> None:
    journal.write("a")
    data = bytearray(frame(encode_record(answered(id="b"))))
    data[20] ^= 1
    journal.append(bytes(data) + frame(b"no record"))
    journal.write("c")
    source = journal.source()
    assert take(source) == ["a", "c"]
    assert source.unreadable == 2


def test_some_at_a_time(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02d}" for number in range(20)]
    journal.write(*names)
    monkeypatch.setattr(source_module, "_POLL_BYTES", 3 * len(frame(encode_record(answered(id="00")))))
    source = journal.source()
    polls = []
    while polled := take(source):
        polls.append(polled)
    assert [one for polled in polls for one in polled] == names
    assert [len(polled) for polled in polls] == [3, 3, 3, 3, 3, 3, 2]


def test_a_removed_segment_is_counted_as_far_as_it_was_not_read(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write("a")
    source = journal.source()
    take(source)
    journal.path().unlink()
    assert source.poll() == (False, [])
    assert source.lost_bytes == 0
    assert not caplog.records
    journal.write("b", start=1)
    source.poll()
    journal.path(start=1).unlink()
    source.poll()
    assert source.lost_bytes == len(frame(encode_record(answered(id="b")))) + len(HEADER)
    assert f"{source.lost_bytes} bytes of the journal were removed" in caplog.text


def test_no_folder_yet(tmp_path: Path) -> None:
    source = JournalSource(tmp_path / "journal", tmp_path / "traces.json", ALL)
    assert source.poll() == (False, [])
