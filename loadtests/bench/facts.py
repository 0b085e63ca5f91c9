"""What a figure depends on besides the code: the machine, its Python, and the versions of everyone measured."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loadtests.bench import install


def machine() -> dict[str, Any]:
    """Facts of this machine; what it doesn't tell is left out."""
    facts: dict[str, Any] = {
        "cpu": _first(Path("/proc/cpuinfo"), r"^model name\s*:\s*(.+)$"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": _gib(_first(Path("/proc/meminfo"), r"^MemTotal:\s*(\d+) kB$")),
        "kernel": platform.release(),
        "system": _first(Path("/etc/os-release"), r'^PRETTY_NAME="?(.+?)"?$'),
        "python": platform.python_version(),
        "node": _node(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def versions(contenders: Iterable[str]) -> dict[str, str]:
    """Of each contender that is installed under a name of `install.PINS`, what it consists of."""
    found = {name: install.version(name) for name in contenders if name in install.PINS}
    return {name: version for name, version in found.items() if version}


def _first(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def _gib(kib: str | None) -> float | None:
    return None if kib is None else round(int(kib) / 2**20, 1)


def _node() -> str | None:
    if shutil.which("node") is None:
        return None
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix("v") or None
