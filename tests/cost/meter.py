"""Counts what Python does while a piece of work runs: bytecode instructions, and calls of functions in C.

Both are the same every time and on every machine for one minor version of Python, so they show what a change costs
where time could not. What they don't show: how much a call in C does.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple


class Cost(NamedTuple):
    instructions: int
    c_calls: int


class Meter:
    """Counts within its `with` blocks, and adds them up."""

    def __init__(self) -> None:
        self._instructions = 0
        self._c_calls = 0

    @property
    def cost(self) -> Cost:
        return Cost(self._instructions, self._c_calls)

    def __enter__(self) -> None:
        sys.setprofile(self._profile)
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        sys.setprofile(None)
        self._c_calls -= 1  # sys.setprofile itself

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            self._instructions += 1
        return self._trace

    def _profile(self, _: FrameType, event: str, __: Any) -> None:
        self._c_calls += event == "c_call"
