"""The locks pin everything, check every file, and say nothing about where files come from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
NAMES = ["dev.txt", "load.txt", "numpy-build.txt", "openai2.txt", "runtime.txt", "triton.txt"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
# An index or a file of it is known by its path or by pip's option for it, whatever its host.
INDEX = re.compile(
    r"https?://[^\s\"'`)]*(?:/simple\b|\.whl\b|\.tar\.gz\b)"
    r"|--(?:(?:extra-)?index-url|find-links|trusted-host)[ =]\S"
)


def read(lock: Path) -> dict[str, list[tuple[Requirement, list[str]]]]:
    """Name → its pins (more than one where the Python version decides), each with its hashes."""
    pins: dict[str, list[tuple[Requirement, list[str]]]] = {}
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        said, *hashes = line.split("--hash=")
        pin = Requirement(said.strip())
        pins.setdefault(pin.name, []).append((pin, [value.strip() for value in hashes]))
    return pins


def test_the_locks_are_there() -> None:
    assert [lock.name for lock in LOCKS] == NAMES


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_and_hashed(lock: Path) -> None:
    for pins in read(lock).values():
        for pin, hashes in pins:
            assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), pin
            assert pin.url is None
            assert hashes, pin
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), pin


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_a_place(lock: Path) -> None:
    assert not re.search(r"://|^-|file:|/", re.sub(r"^#.*", "", lock.read_text(), flags=re.MULTILINE), re.MULTILINE)


def test_the_tests_run_on_the_pins_that_serve() -> None:
    runtime, dev = (read(ROOT / "requirements" / name) for name in ("runtime.txt", "dev.txt"))
    assert {name: pins for name, pins in dev.items() if name in runtime} == runtime


def test_no_tracked_file_names_an_index() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or path == Path(__file__) or not path.is_file() or path.stat().st_size > 2_000_000:
            continue
        data = path.read_bytes()
        if b"\0" not in data:
            found += [f"{name}: {hit}" for hit in INDEX.findall(data.decode(errors="replace"))]
    assert not found
