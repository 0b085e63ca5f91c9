"""The writer: what it was given is in a readable segment, whatever the disk does; what is not is counted.

The loop is a fake whose timers the test fires; the threads are real, and every test ends them before it looks.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.request import Message
from gateway.journal import disk as disk_module
from gateway.journal.frame import HEADER
from gateway.journal.reader import Tally, read
from gateway.journal.record import Choice
from gateway.journal.segments import in_use, list_segments, sweep
from gateway.journal.verify import verify
from gateway.journal.writer import FLUSH_S, JournalWriter
from tests.journal.records import make_record

WAIT_S = 60.0


class Loop:
    """Timers that fire when the test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        self.timers.append((delay, callback))
        return None

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()


def make_writer(folder: Path, loop: Loop | None = None, **changes: Any) -> JournalWriter:
    settings: dict[str, Any] = {"segment_bytes": 1 << 20, "segment_age_s": 3600.0, "memory_bytes": 1 << 20}
    return JournalWriter(folder, 3, loop=loop or Loop(), **(settings | changes))


class Disk:
    """In the place of os.write: fails once `room` bytes are written, takes part of a write that goes beyond."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, error: int) -> None:
        self.room = room
        self.error = error
        self.failed = threading.Event()
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: Any) -> int:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return self._write(fd, data)
        if self.room <= 0:
            self.failed.set()
            raise OSError(self.error, os.strerror(self.error))
        done = self._write(fd, bytes(data)[: self.room])
        self.room -= done
        return done


def after(writer: JournalWriter, step: str) -> threading.Event:
    """Set each time the writing thread has taken a step: what the step left behind can be looked at then."""
    taken, take = threading.Event(), getattr(writer._disk, step)

    def taking(*arguments: object) -> None:
        take(*arguments)
        taken.set()

    setattr(writer._disk, step, taking)
    return taken


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    folder, loop = tmp_path / "state" / "journal", Loop()
    writer = make_writer(folder, loop)
    records = [make_record(number, worker=3) for number in range(50)]
    for record in records:
        writer.append(record)
        if record.at % 3 == 0:
            loop.fire()
    assert writer.stats.pending_bytes > 0 or writer.stats.written > 0
    writer.close()
    assert list(read(folder)) == records
    figures = writer.stats
    assert (figures.written, figures.dropped, figures.pending_bytes, figures.lag_ns) == (50, 0, 0, 0)
    assert (figures.sync_lag_ns, figures.error, figures.segment) == (0, "", "")
    (segment,) = list_segments(folder)
    assert figures.bytes == segment.path.stat().st_size - len(HEADER)
    assert (segment.worker, segment.pid) == (3, os.getpid())
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_one_timer_for_all_records_of_five_milliseconds(tmp_path: Path) -> None:
    loop = Loop()
    writer = make_writer(tmp_path, loop)
    for number in range(10):
        writer.append(make_record(number))
    assert [delay for delay, _ in loop.timers] == [FLUSH_S]
    assert writer.stats.lag_ns > 0
    loop.fire()
    writer.append(make_record(10))
    assert len(loop.timers) == 1
    writer.close()
    assert writer.stats.written == 11
    loop.fire()  # a timer that comes after the end finds nothing to do


def test_an_idle_writer_leaves_no_segment(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.close()
    writer.close()
    assert list_segments(tmp_path) == []


def test_after_the_end_records_are_dropped_and_counted(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.close()
    writer.append(make_record())
    assert writer.stats.dropped == 1


def test_a_closed_loop_takes_no_timers_but_loses_no_record(tmp_path: Path) -> None:
    class Closed(Loop):
        def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
            raise RuntimeError("Event loop is closed")

    writer = make_writer(tmp_path, Closed())
    writer.append(make_record())
    writer.close()
    assert writer.stats.written == 1


def test_the_segment_being_written_is_locked_and_survives_a_sweep(tmp_path: Path) -> None:
    synced = threading.Event()
    writer = make_writer(tmp_path, loop := Loop())
    sync = writer._disk.syncer._sync
    writer._disk.syncer._sync = lambda segment: (sync(segment), synced.set())  # type: ignore[method-assign]
    writer.append(make_record())
    loop.fire()
    assert synced.wait(WAIT_S)
    (segment,) = list_segments(tmp_path)
    assert in_use(segment.path)
    assert writer.stats.segment == segment.path.name
    assert sweep(tmp_path, 0.0, 0, 1e11) == []
    writer.close()
    assert not in_use(segment.path)
    assert sweep(tmp_path, 0.0, 0, 1e11) == [segment.path]


def test_rotation_by_size(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, loop := Loop(), segment_bytes=1500)
    records = [make_record(number) for number in range(40)]
    for record in records:
        writer.append(record)
        loop.fire()
    writer.close()
    sizes = [segment.path.stat().st_size for segment in list_segments(tmp_path)]
    assert len(sizes) > 5
    assert all(1500 <= size < 2500 for size in sizes[:-1])
    assert list(read(tmp_path)) == records


def test_rotation_by_age(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, loop := Loop(), segment_age_s=0.0)
    closed = threading.Semaphore(0)
    retire = writer._disk.syncer.retire
    writer._disk.syncer.retire = lambda segment: (retire(segment), closed.release())  # type: ignore[method-assign]
    for number in range(3):
        writer.append(make_record(number))
        loop.fire()
        assert closed.acquire(timeout=WAIT_S)
    writer.close()
    assert len(list_segments(tmp_path)) == 3
    assert len(list(read(tmp_path))) == 3


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("room", [0, 10, 16, 17, 400, 1500])
def test_a_write_that_fails_part_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, error: int
) -> None:
    full = Disk(monkeypatch, room, error)
    writer = make_writer(tmp_path, loop := Loop())
    records = [make_record(number) for number in range(5)]
    for record in records[:4]:
        writer.append(record)
    loop.fire()
    assert full.failed.wait(WAIT_S)
    writer.append(records[4])
    loop.fire()
    full.room = 1 << 30
    writer.close()
    assert list(read(tmp_path)) == records
    assert all(verdict.sound for verdict in verify(tmp_path))
    figures = writer.stats
    assert (figures.written, figures.dropped, figures.error, figures.pending_bytes) == (5, 0, "", 0)


def test_where_truncation_fails_too_the_torn_segment_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_truncate(fd: int, length: int) -> None:
        raise OSError(errno.EIO, "no")

    full = Disk(monkeypatch, 700, errno.ENOSPC)
    monkeypatch.setattr(os, "ftruncate", no_truncate)
    writer = make_writer(tmp_path, loop := Loop())
    records = [make_record(number) for number in range(4)]
    for record in records:
        writer.append(record)
    loop.fire()
    assert full.failed.wait(WAIT_S)
    full.room = 1 << 30
    writer.close()
    assert len(list_segments(tmp_path)) == 2
    tally = Tally()
    assert list(read(tmp_path, tally=tally)) == records
    assert tally.torn == 1


def test_memory_is_bounded_and_drops_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = Disk(monkeypatch, 0, errno.ENOSPC)
    writer = make_writer(tmp_path, loop := Loop(), memory_bytes=5000)
    noted = after(writer, "_failed")
    for number in range(100):
        writer.append(make_record(number))
        loop.fire()
        assert writer.stats.pending_bytes <= 5000
    assert noted.wait(WAIT_S)
    kept = 100 - writer.stats.dropped
    assert 5 < kept < 20
    assert "No space left" in writer.stats.error
    assert writer.stats.lag_ns > 0
    full.room = 1 << 30
    writer.close()
    assert [record.request_id for record in read(tmp_path)] == [f"req-{number}" for number in range(kept)]
    assert (writer.stats.written, writer.stats.dropped) == (kept, 100 - kept)
    said = [record.message for record in caplog.records]
    assert sum("dropped" in line for line in said) == 1  # not one line a record
    assert any("can't write" in line and "No space left" in line for line in said)
    assert any("writing to" in line and "again" in line for line in said)


def test_writing_resumes_by_itself_in_the_same_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Disk(monkeypatch, 500, errno.ENOSPC)
    writer = make_writer(tmp_path, loop := Loop())
    resumed = after(writer, "_recovered")
    for number in range(4):
        writer.append(make_record(number))
    loop.fire()
    assert full.failed.wait(WAIT_S)
    full.room = 1 << 30
    assert resumed.wait(WAIT_S)
    assert writer.stats.error == ""
    writer.close()
    assert len(list(read(tmp_path))) == 4
    assert len(list_segments(tmp_path)) == 1


def test_a_disk_that_stays_full_ends_in_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Disk(monkeypatch, 0, errno.ENOSPC)
    writer = make_writer(tmp_path)
    for number in range(7):
        writer.append(make_record(number))
    writer.close()
    assert (writer.stats.written, writer.stats.dropped, writer.stats.pending_bytes) == (0, 7, 0)
    assert list_segments(tmp_path) == []  # not one empty file for each try
    assert "7 records could not be written" in caplog.text


def test_a_failed_sync_begins_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def no_sync(fd: int) -> None:
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = make_writer(tmp_path, loop := Loop())
    done = threading.Event()
    sync = writer._disk.syncer._sync
    writer._disk.syncer._sync = lambda segment: (sync(segment), done.set())  # type: ignore[method-assign]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", no_sync)
        writer.append(make_record(0))
        loop.fire()
        assert done.wait(WAIT_S)
        assert failed.is_set()
    assert "Input/output" in writer.stats.error
    writer.append(make_record(1))
    writer.close()
    assert len(list_segments(tmp_path)) == 2
    assert len(list(read(tmp_path))) == 2
    assert writer.stats.error == ""


def test_a_segment_removed_under_the_writer_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    writer = make_writer(folder, loop := Loop())
    done = threading.Semaphore(0)
    sync = writer._disk.syncer._sync
    writer._disk.syncer._sync = lambda segment: (sync(segment), done.release())  # type: ignore[method-assign]
    writer.append(make_record(0))
    loop.fire()
    assert done.acquire(timeout=WAIT_S)
    for segment in list_segments(folder):
        segment.path.unlink()
    folder.rmdir()
    writer.append(make_record(1))
    loop.fire()
    assert done.acquire(timeout=WAIT_S)
    writer.append(make_record(2))
    writer.close()
    assert [record.request_id for record in read(folder)] == ["req-2"]


def test_a_slow_sync_delays_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncing, go_on, wrote = threading.Event(), threading.Event(), threading.Semaphore(0)
    really = os.fdatasync

    def slow(fd: int) -> None:
        syncing.set()
        assert go_on.wait(WAIT_S)
        really(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    writer = make_writer(tmp_path, loop := Loop())
    recovered = writer._disk._recovered
    writer._disk._recovered = lambda: (recovered(), wrote.release())  # type: ignore[method-assign]
    writer.append(make_record(0))
    loop.fire()
    assert syncing.wait(WAIT_S)
    for number in range(1, 4):
        writer.append(make_record(number))
        loop.fire()
    for _ in range(4):
        assert wrote.acquire(timeout=WAIT_S)
    assert writer.stats.written == 4
    assert writer.stats.sync_lag_ns > 0
    assert len(list(read(tmp_path))) == 4
    go_on.set()
    writer.close()
    assert writer.stats.sync_lag_ns == 0


def test_a_disk_that_hangs_does_not_hang_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(disk_module, "Appender", lambda folder, worker: go_on.wait(WAIT_S) and None)
    writer = make_writer(tmp_path)
    writer.append(make_record())
    writer.close(timeout_s=0.01)
    assert "did not answer" in caplog.text
    go_on.set()
    writer._disk._thread.join(WAIT_S)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\x00\x1b\u2028\U0010ffff", "\x00\x1b\u2028\U0010ffff"),
    ],
)
def test_whatever_a_client_may_send_is_kept(tmp_path: Path, text: str, kept: str) -> None:
    writer = make_writer(tmp_path)
    calls = [{"function": {text: [text, 10**30, 1.5, None]}}]
    kept_calls = [{"function": {kept: [kept, 10**30, 1.5, None]}}]
    fields = {"request_id": text, "prompts": (text,), "choices": (Choice(text, "stop"),)}
    writer.append(make_record(messages=(Message("user", text, name=text, tool_calls=calls),), **fields))
    writer.close()
    (record,) = read(tmp_path)
    assert record.messages == (Message("user", kept, name=kept, tool_calls=kept_calls),)
    assert (record.request_id, record.prompts, record.choices) == (kept, (kept,), (Choice(kept, "stop"),))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("redact", [(), ("secret",)])
@pytest.mark.parametrize("content", ["full", "hashed", "none"])
def test_content_that_can_not_be_encoded_costs_the_content_only(
    tmp_path: Path, content: str, redact: tuple[str, ...]
) -> None:
    writer = make_writer(tmp_path, redact=redact)
    writer.append(make_record(content=content, messages=(Message("user", "hi", tool_calls=nested(50_000)),)))
    writer.close()
    (record,) = read(tmp_path)
    assert record.content == "none"
    assert record.messages == (Message("user", ""),)
    assert (record.cost, record.choices) == (1000, (Choice("", "stop"),))


def test_a_record_beyond_the_largest_frame_is_kept_without_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.journal.writer.MAX_PAYLOAD", 2000)
    writer = make_writer(tmp_path)
    writer.append(make_record(messages=(Message("user", "x" * 3000),)))
    writer.close()
    (record,) = read(tmp_path)
    assert (record.content, record.messages) == ("none", (Message("user", ""),))


def test_what_can_not_be_encoded_at_all_is_counted_and_not_quoted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make_writer(tmp_path)
    writer.append(make_record(endpoint=object(), messages=(Message("user", "a secret"),)))
    writer.close()
    assert writer.stats.dropped == 1
    assert "TypeError" in caplog.text
    assert "secret" not in caplog.text


def test_privacy_is_applied_before_writing(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, redact=(r"\d{4}",))
    writer.append(make_record(messages=(Message("user", "pin 1234"),)))
    writer.close()
    (segment,) = list_segments(tmp_path)
    assert b"pin [redacted]" in segment.path.read_bytes()
    assert b"pin 1234" not in segment.path.read_bytes()
