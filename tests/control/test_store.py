"""What the store leaves on the disk, and what it makes of what it finds there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.control.store import AUDIT, LIVE, Entry, Store
from gateway.routing.live import Live, Override
from tests.control.gathering import gathered


def entry(number: int) -> Entry:
    return Entry(f"2026-11-23T00:00:{number:02}", "ada (process 1)", "set", "chat", {"split": {}}, None, "x" * number)


def test_what_is_written_is_read() -> None:
    assert Store(Path("/nowhere")).read() == Live()
    assert Store(Path("/nowhere")).entries(5) == []


def test_live_is_replaced_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for generation in (1, 2):
        live = Live(generation, {"chat": Override({"v1": 1.0}, pin="v1")})
        store.write(live)
        assert store.read() == live
    assert [path.name for path in tmp_path.iterdir()] == [LIVE]


def test_the_newest_entries_come_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [entry(number) for number in range(30)]
    for one in entries:
        store.record(one)
    for count in (1, 2, 29, 30, 31, 1000):
        assert store.entries(count) == entries[-count:]


def test_entries_are_found_in_a_file_of_many_pieces(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [Entry("t", "w", "set", why=str(number) * 4000) for number in range(100)]
    for one in entries:
        store.record(one)
    assert (tmp_path / AUDIT).stat().st_size > 3 * 65536
    assert store.entries(40) == entries[-40:]
    assert store.entries(1000) == entries


def test_a_cut_line_takes_no_other_along(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record(entry(1))
    with (tmp_path / AUDIT).open("ab") as file:
        file.write(b'{"at":"2026')
    store.record(entry(2))
    assert store.entries(10) == [entry(1), entry(2)]


def test_a_damaged_state_is_set_aside_and_said(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / LIVE).write_text('{"generation": "many"}')

    async def start() -> None:
        async with gathered(tmp_path, workers=0) as here:
            assert here.desk.endpoints["org/chat"].split == {"v1": 90, "v2": 10}

    asyncio.run(start())
    assert (state / "live.damaged").read_text() == '{"generation": "many"}'
    (said,) = Store(state).entries(10)
    assert (said.who, said.action) == ("start", "set aside")
