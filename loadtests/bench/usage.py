"""What a tree of processes has used, read from outside: CPU time to the nanosecond, memory from /proc.

CPU is the kernel's clock of each process, all its threads counted, those that ended too; child processes that have
been waited for come with their parent, in ticks of 10 ms. Processes that vanish meanwhile are skipped: their parent
has their time.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Sums over the tree, at one moment."""

    cpu_s: float
    """User and system time since the processes began, in seconds."""
    rss_mib: float
    """Resident now."""
    peak_mib: float
    """The sum of each process's highest resident size."""
    largest_mib: float
    """The highest resident size of the largest process: its worker, where there are several."""
    processes: int


NOTHING = Usage(0.0, 0.0, 0.0, 0.0, 0)


class Stat(NamedTuple):
    """What is used of /proc/PID/stat."""

    parent: int
    reaped_ticks: int
    """User and system time of children that ended and were waited for."""


def parse_stat(text: str) -> Stat:
    """The name, in brackets, may hold anything: blanks and brackets too. Raises ValueError or IndexError."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(int(fields[1]), int(fields[13]) + int(fields[14]))


def parse_status(text: str) -> tuple[int, int]:
    """Resident size and its peak in KiB out of /proc/PID/status; 0 for what a dying process no longer has."""
    sizes = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("VmRSS:", "VmHWM:")))
    return _kib(sizes.get("VmRSS", "0")), _kib(sizes.get("VmHWM", "0"))


def tree(root: int, proc: Path = _PROC) -> list[int]:
    """The living process `root` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                children.setdefault(parse_stat((folder / "stat").read_text()).parent, []).append(int(folder.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if (proc / str(pid)).exists():
            found.append(pid)
        waiting += children.get(pid, [])
    return found


def usage(root: int) -> Usage:
    """Of `root` and its descendants. 0 is nobody. Raises ProcessLookupError when `root` is gone."""
    if not root:
        return NOTHING
    pids = tree(root)
    if root not in pids:
        raise ProcessLookupError(f"process {root} is gone; its log says why")
    cpu_s, rss, peaks = 0.0, 0, []
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            stat = parse_stat((_PROC / str(pid) / "stat").read_text())
            resident, peak = parse_status((_PROC / str(pid) / "status").read_text())
            cpu_s += time.clock_gettime(_clock(pid)) + stat.reaped_ticks / _TICKS
            rss += resident
            peaks.append(peak)
    return Usage(cpu_s, rss / 1024, sum(peaks) / 1024, max(peaks, default=0) / 1024, len(peaks))


def _clock(pid: int) -> int:
    # clock_getcpuclockid(3), which Python lacks: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel.
    return ~pid << 3 | 2


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0])
