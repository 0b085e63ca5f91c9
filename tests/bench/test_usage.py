"""CPU and memory of a process tree, read from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.bench.usage import NOTHING, Stat, parse_stat, parse_status, tree, usage

BURN = """
import subprocess, sys, time
def burn(seconds):
    while time.process_time() < seconds:
        pass
if len(sys.argv) == 1:
    burn(0.2)
    subprocess.run([sys.executable, __file__, "child"], check=True)  # ended and waited for
    print(time.process_time(), flush=True)
    sys.stdin.read()
else:
    burn(0.3)
"""


def stat_line(pid: int, parent: int, name: str = "python") -> str:
    fields = [parent, 1, 1, 0, -1, 0, 0, 0, 0, 0, 11, 12, 3, 4, 20, 0, 1, 0]
    return f"{pid} ({name}) S {' '.join(map(str, fields))}\n"


@pytest.mark.parametrize("name", ["python", "a b", "x) S 9 9 9 (y", "()"])
def test_a_process_may_have_any_name(name: str) -> None:
    assert parse_stat(stat_line(5, 4, name)) == Stat(parent=4, reaped_ticks=7)


@pytest.mark.parametrize("text", ["", "5 (cut", "5 (cut) S 1"])
def test_a_stat_that_was_cut_off_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_stat(text)


def test_sizes_of_a_process_and_of_one_that_is_dying() -> None:
    assert parse_status("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n") == (1024, 2048)
    assert parse_status("Name:\tx\nState:\tZ (zombie)\n") == (0, 0)


def test_a_tree_is_the_root_and_all_below_it(tmp_path: Path) -> None:
    for pid, parent in ((1, 0), (10, 1), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat_line(pid, parent))
    (tmp_path / "30").mkdir()  # one that has just gone
    (tmp_path / "self").mkdir()
    assert sorted(tree(10, tmp_path)) == [10, 11, 12, 13]
    assert tree(99, tmp_path) == []


@contextmanager
def burner(folder: Path) -> Iterator[tuple[int, float]]:
    """A process that has used CPU, with a child that ended; and what it says that it used itself."""
    script = folder / "burn.py"
    script.write_text(BURN)
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.pid, float(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def test_cpu_of_a_process_and_of_its_child_that_ended(tmp_path: Path) -> None:
    with burner(tmp_path) as (pid, own_s):
        found = usage(pid)
        assert found.cpu_s >= own_s + 0.3 - 0.02  # the child's comes in ticks of 10 ms, user and system each
        assert found.cpu_s < own_s + 1.5  # what a child may use to start Python, and no more
        assert found.processes == 1
        assert 1 < found.largest_mib <= found.peak_mib
        assert 0 < found.rss_mib <= found.peak_mib


def test_living_children_count_and_the_largest_process_is_known() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = usage(os.getpid())
        assert child.pid in tree(os.getpid())
        assert found.processes >= 2
        assert found.peak_mib > found.largest_mib
        child.communicate(b"\n")


def test_nobody_uses_nothing_and_a_process_that_is_gone_is_said() -> None:
    assert usage(0) == NOTHING
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.raises(ProcessLookupError, match=str(gone.pid)):
        usage(gone.pid)
