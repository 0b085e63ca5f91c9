"""A whole gateway as a user runs it: `penstock serve` in a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 60


@dataclass(frozen=True)
class Running:
    """A gateway that is ready. `facts` is the line that `serve --json` printed."""

    process: subprocess.Popen[bytes]
    facts: dict[str, Any]
    state: Path
    stderr: Path

    @property
    def http(self) -> str:
        return str(self.facts["http"])

    @property
    def port(self) -> int:
        return int(self.http.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://{self.http}/v1"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


def triton_environment() -> Path:
    """The environment that `make triton-env` made, or the one that PENSTOCK_TRITON_ENV names."""
    return Path(os.environ.get("PENSTOCK_TRITON_ENV") or ROOT / ".venv-triton")


@contextlib.contextmanager
def serving(state: Path, *arguments: str, config: str | None = None) -> Iterator[Running]:
    """Run `penstock serve --json` on free ports until the block ends.

    `config` is TOML; `[engine] environment` is not needed in it. Fails with the process's own words.
    """
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gateway.cli", "serve", "--json", "--state", str(state / "state"), *arguments]
    for flag in ("--http", "--grpc", "--metrics"):
        if flag not in arguments:
            command += [flag, "127.0.0.1:0"]
    if config is not None:
        path = state / "penstock.toml"
        path.write_text(config)
        command += ["--config", str(path)]
    stderr = state / "stderr.txt"
    environment = {**os.environ, "PENSTOCK_TRITON_ENV": str(triton_environment())}
    with stderr.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"serve ended with {process.wait()}:\n{stderr.read_text()}")
        yield Running(process, orjson.loads(line), state / "state", stderr)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        process.stdout.close()


def children(pid: int) -> dict[int, str]:
    """All living descendants of a process: pid → command line."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (folder / "stat").read_text()
                parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            with contextlib.suppress(OSError):
                found[child] = (Path("/proc") / str(child) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                todo.append(child)
    return found


def alive(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that still run (a zombie does not)."""
    living = []
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] != "Z":
                living.append(pid)
    return living
