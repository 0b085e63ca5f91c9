"""What must outlive a restart: the live decisions, and the record of who made them.

live.json is replaced whole and is on the disk when `write` returns. audit.jsonl only grows, a line per decision.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.routing.live import Live

LIVE = "live.json"
AUDIT = "audit.jsonl"
_TAIL_BYTES = 1 << 16


class Entry(Struct, frozen=True, rename={"from_": "from"}):
    """One decision. `at` is UTC in ISO 8601; `who` a user and process, "SIGHUP" or "start"; `endpoint` "" for all."""

    at: str
    who: str
    action: str
    endpoint: str = ""
    from_: Any = None
    to: Any = None
    why: str = ""


class Store:
    """The two files in a state folder. Errors of all methods: OSError."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"Store({self.state})"

    def read(self) -> Live:
        """The decisions; none without a file. Errors: also msgspec.DecodeError for a damaged one."""
        try:
            data = (self.state / LIVE).read_bytes()
        except FileNotFoundError:
            return Live()
        return msgspec.json.decode(data, type=Live)

    def set_aside(self) -> Path:
        """Rename a damaged file, so that it can be looked at; its new path."""
        path = self.state / LIVE
        return path.rename(path.with_suffix(".damaged"))

    def write(self, live: Live) -> None:
        """Replace the file."""
        path = self.state / LIVE
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(live)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new name, too, must outlive the machine
        finally:
            os.close(folder)

    def record(self, entry: Entry) -> None:
        """Append to the audit."""
        with (self.state / AUDIT).open("ab+") as file:
            line = msgspec.json.encode(entry) + b"\n"
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that was cut by a full disk or a power cut must not take ours along
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def entries(self, count: int) -> list[Entry]:
        """The last `count` of the audit, oldest first; lines that were cut are left out."""
        try:
            with (self.state / AUDIT).open("rb") as file:
                lines = _last_lines(file, count)
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Entry))
            except msgspec.DecodeError:
                continue
        return found[-count:] if count else []


def _last_lines(file: Any, count: int) -> list[bytes]:
    """At least `count` whole lines from the end, or all."""
    at = file.seek(0, os.SEEK_END)
    data = b""
    while at and data.count(b"\n") <= count:
        step = min(_TAIL_BYTES, at)
        at -= step
        file.seek(at)
        data = file.read(step) + data
    lines: list[bytes] = data.splitlines()
    return lines[1:] if at else lines
