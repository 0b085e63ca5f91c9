"""The recorded costs, by minor version of Python: instructions differ between them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from tests.cost.meter import Cost

FILE = Path(__file__).with_name("record.json")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def read() -> dict[str, Cost]:
    """Of this Python; empty where there is none."""
    return {name: Cost(*figures) for name, figures in _all().get(PYTHON, {}).items()}


def write(costs: dict[str, Cost]) -> None:
    everything = _all() | {PYTHON: {name: list(cost) for name, cost in costs.items()}}
    FILE.write_bytes(orjson.dumps(everything, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def _all() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(FILE.read_bytes()) if FILE.exists() else {}
    return found
