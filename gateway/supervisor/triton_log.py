"""Triton's log: what to say while it starts, and which lines to show when it can't.

Lines look like "I1123 08:30:00.123456 4242 model_lifecycle.cc:473] "loading: assistant:1"".
"""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"^(?P<level>[IWEF])\d{4} [\d:.]+ \d+ [\w./-]+:\d+\] (?P<text>.*)$")
_LOADING = re.compile(r'"?loading: (?P<model>[^:"]+):(?P<version>\d+)')
_LOADED = re.compile(r"successfully loaded '(?P<model>[^']+)'")
_NOISE = re.compile(r"CUDA|NVIDIA driver|GPU metrics|[Pp]inned memory|cudaGet|gpu_memory|dcgm", re.IGNORECASE)
_TABLE = re.compile(r"^[+|]")
_TRACEBACK = re.compile(r"\\n\\nAt:\\n.*")
_SHOWN = 12
_WIDTH = 400


class LogTail:
    """Reads what was added to a log file since the last look.

    Args: `start` is the position in bytes where this run's part of the file begins.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self._start = start
        self._at = start
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Complete lines since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]

    def useful_lines(self) -> list[str]:
        """The last lines that say what went wrong: errors and their continuation, else simply the last."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._start)
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        return useful(text.splitlines())


def useful(lines: list[str]) -> list[str]:
    """Of a log, the lines to show with an error; at most a dozen, the last ones."""
    chosen: list[str] = []
    in_error = False
    for line in lines:
        match = _LINE.match(line)
        if match:
            in_error = match["level"] in "EF" and not _NOISE.search(match["text"])
            if in_error:
                chosen.append(_TRACEBACK.sub("", match["text"]))
        elif in_error and line.strip() and not _TABLE.match(line):
            chosen.append(line)
    if not chosen:
        chosen = [line for line in lines if line.strip() and not _TABLE.match(line)]
    unique = list(dict.fromkeys(line.strip().strip('"') for line in chosen))
    return [line[:_WIDTH] for line in unique[-_SHOWN:]]


def progress(line: str) -> str | None:
    """What a line of the log says about the start, in words for a user; None for most lines."""
    if match := _LOADING.search(line):
        return f"Triton is loading {match['model']} version {match['version']}"
    if match := _LOADED.search(line):
        return f"Triton has loaded {match['model']}"
    return None
