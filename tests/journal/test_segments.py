"""Names, order, use and retention of segments."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from gateway.journal.segments import in_use, list_segments, segment_name, sweep
from tests.journal.records import AT

NOW = AT / 1e9
DAY = 86400.0


def make(folder: Path, name: str, *, age_s: float = 0.0, size: int = 100) -> Path:
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


def test_names_are_read_back_and_sort_by_time(tmp_path: Path) -> None:
    starts = [AT // 1000, AT // 1000 + 1, AT // 1000 + 999_999, AT // 1000 + 10_000_000]
    for worker in (1, 0, 12, 1023):
        for start in starts[::-1]:
            make(tmp_path, segment_name(worker, start, 42))
    found = list_segments(tmp_path)
    assert [(one.start, one.worker) for one in found] == sorted(
        (start, w) for start in starts for w in (0, 1, 12, 1023)
    )
    assert {one.pid for one in found} == {42}
    assert segment_name(3, 1_790_000_000_123_456, 77) == "003-20260921T141320123456Z-77.seg"
    names = [segment_name(1, start, 1) for start in starts]
    assert sorted(names) == names


@pytest.mark.parametrize(
    "name", ["notes.txt", "000-20260921T141320123456Z-77.seg.gz", "000-20261399T991320123456Z-77.seg", "0-1-1.seg"]
)
def test_other_files_are_no_segments(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name, age_s=100 * DAY)
    assert list_segments(tmp_path) == []
    assert sweep(tmp_path, 1, 0, NOW) == []
    assert path.exists()


def test_no_folder_is_an_empty_journal(tmp_path: Path) -> None:
    assert list_segments(tmp_path / "none") == []
    assert sweep(tmp_path / "none", 1, 1, NOW) == []


@pytest.mark.parametrize(
    ("keep_s", "keep_bytes", "removed"),
    [
        (None, None, []),
        (10 * DAY, None, []),
        (3.5 * DAY, None, [0]),
        (2.5 * DAY, None, [0, 1]),
        (0.5 * DAY, None, [0, 1, 2, 3]),
        (None, 400, []),
        (None, 399, [0]),
        (None, 100, [0, 1, 2]),
        (None, 0, [0, 1, 2, 3]),
        (3.5 * DAY, 200, [0, 1]),
        (2.5 * DAY, 399, [0, 1]),
    ],
)
def test_retention(tmp_path: Path, keep_s: float | None, keep_bytes: int | None, removed: list[int]) -> None:
    paths = [
        make(tmp_path, segment_name(number % 2, AT // 1000 + number, 1), age_s=(4 - number) * DAY)
        for number in range(4)
    ]
    assert sweep(tmp_path, keep_s, keep_bytes, NOW) == [paths[number] for number in removed]
    assert [path.exists() for path in paths] == [number not in removed for number in range(4)]


def test_a_segment_in_use_is_never_removed_though_it_counts(tmp_path: Path) -> None:
    used = make(tmp_path, segment_name(0, AT // 1000, 1), age_s=9 * DAY)
    later = make(tmp_path, segment_name(0, AT // 1000 + 1, 1))
    fd = os.open(used, os.O_WRONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert in_use(used)
    assert not in_use(later)
    assert sweep(tmp_path, DAY, None, NOW) == []
    assert sweep(tmp_path, DAY, 150, NOW) == [later]
    os.close(fd)
    assert not in_use(used)
    assert sweep(tmp_path, DAY, None, NOW) == [used]
    assert not in_use(used)
