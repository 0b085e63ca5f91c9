"""The writer in a process of its own, on a real loop and a real file system: killed, and out of room."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.journal.reader import Tally, read
from gateway.journal.segments import in_use, list_segments
from gateway.journal.verify import verify

ROOT = Path(__file__).parents[2]
WAIT_S = 90


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.journal.writing_process", str(folder), *arguments]


@pytest.mark.parametrize("said", [1, 40, 700])
def test_killed_it_has_lost_nothing_that_was_flushed(tmp_path: Path, said: int) -> None:
    with subprocess.Popen(command(tmp_path, "endless"), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        flushed = [int(process.stdout.readline()) for _ in range(said)]
        (segment,) = list_segments(tmp_path)
        assert in_use(segment.path)
        process.kill()
        flushed += [int(line) for line in process.stdout]
        assert process.wait(WAIT_S) == -signal.SIGKILL
    assert not in_use(segment.path)
    tally = Tally()
    found = [record.request_id for record in read(tmp_path, tally=tally)]
    assert found[: len(flushed)] == [f"req-{number}" for number in flushed]
    assert flushed == list(range(len(flushed)))
    assert tally.damaged == tally.unreadable == 0
    assert tally.torn <= 1


def test_a_limit_on_file_size_costs_segments_and_no_record(tmp_path: Path) -> None:
    limited = subprocess.run(
        command(tmp_path, "count", "10", "3000"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000)),
    )
    assert limited.returncode == 0, limited.stderr
    figures = json.loads(limited.stdout)
    assert "File too large" in limited.stderr
    # Three fit into each; the last try of the end may leave some, and then they are counted.
    kept = [record.request_id for record in read(tmp_path)]
    assert kept == [f"req-{number}" for number in range(len(kept))]
    assert figures["written"] == len(kept)
    assert len(kept) + figures["dropped"] == 10
    assert len(kept) >= 6
    assert all(verdict.sound and verdict.bytes <= 12_000 for verdict in verify(tmp_path))


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="mounting a tmpfs needs root")
def test_on_a_full_disk_drops_are_counted_and_all_that_is_kept_can_be_read(tmp_path: Path) -> None:
    # The mount lives and dies with the namespace, so the journal is copied out at the end.
    mount, copy = tmp_path / "mount", tmp_path / "copy"
    mount.mkdir()
    script = (
        'mount -t tmpfs -o size=256k tmpfs "$1" || exit 77; shift; copy=$1; shift; "$@" || exit 1; cp -r "$0" "$copy"'
    )
    journal = mount / "journal"
    writing = command(journal, "count", "1500", "3000")
    full = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(journal), str(mount), str(copy), *writing],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    if full.returncode == 77 or "unshare" in full.stderr:
        pytest.skip("mounting is not permitted here")
    assert full.returncode == 0, full.stderr
    figures = json.loads(full.stdout)
    kept = [record.request_id for record in read(copy)]
    assert kept == [f"req-{number}" for number in range(len(kept))]
    assert figures["written"] == len(kept)
    assert 50 < len(kept) < 100
    assert figures["dropped"] == 1500 - len(kept)
    assert "No space left" in figures["error"]
    assert all(verdict.sound for verdict in verify(copy))
