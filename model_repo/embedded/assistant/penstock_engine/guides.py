"""Guides for structured output, tried out before they may come near the engine.

GenAI compiles a guide inside the first `step()` that samples with it. If that fails, the whole batch
is poisoned and every request in it is lost; and a hostile regex can take minutes, with the GIL held.
So each guide is first compiled by another process (`guide_probe`), within a limit of CPU time; only one
that has passed goes on. What passed is remembered. A usual schema takes a few milliseconds there, one with
sixty objects eighty; the engine needs about three times as long, for it has a larger vocabulary.

The process starts with the first guide it is asked about, which costs that request about a second.
"""

from __future__ import annotations

import json
import math
import os
import queue
import select
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

START_LIMIT_S = 20.0
CHECK_LIMIT_S = 10.0
CHECK_LIMIT_CPU_S = 0.3
_LOOK_S = 0.05
_REMEMBERED = 256
_PROBE = Path(__file__).with_name("guide_probe.py")


@dataclass(frozen=True, slots=True)
class Guide:
    """`kind` is the field of GenAI's StructuredOutputConfig: json_schema, regex or grammar."""

    kind: str
    text: str


class ProbeFailed(RuntimeError):
    """The probe process didn't start, died, or said something that isn't an answer."""


class GuideChecker:
    """Asks the probe process; one question at a time, in a thread of its own."""

    def __init__(self, python: str) -> None:
        """
        Args:
            python: an interpreter that can import openvino_genai.
        """
        self._command: Sequence[str] = (python, str(_PROBE))
        self._passed: OrderedDict[Guide, None] = OrderedDict()
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[tuple[Guide, Callable[[str], None]] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._serve, name="guide-checker")
        self._thread.start()

    def has_passed(self, guide: Guide) -> bool:
        """Whether this very guide has been tried before, with success."""
        with self._lock:
            if guide in self._passed:
                self._passed.move_to_end(guide)
                return True
        return False

    def ask(self, guide: Guide, answer: Callable[[str], None]) -> None:
        """Try a guide out.

        Args:
            answer: called from the checker's thread with what is wrong, "" for nothing.
        """
        self._asked.put((guide, answer))

    def close(self) -> None:
        """End the process and the thread."""
        self._asked.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (question := self._asked.get()) is not None:
            guide, answer = question
            answer(self._verdict(guide))
        self._end_probe()

    def _verdict(self, guide: Guide) -> str:
        if self.has_passed(guide):
            return ""
        try:
            wrong = self._probe(guide)
        except (ProbeFailed, OSError) as exc:
            self._end_probe()
            return f"the guide could not be checked: {exc}"
        if not wrong:
            with self._lock:
                self._passed[guide] = None
                if len(self._passed) > _REMEMBERED:
                    self._passed.popitem(last=False)
        return wrong

    def _probe(self, guide: Guide) -> str:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start_probe()
        until = _cpu_s(process.pid) + CHECK_LIMIT_CPU_S
        self._write(process, {"kind": guide.kind, "text": guide.text})
        reply = self._read(process, CHECK_LIMIT_S, until)
        if reply is None:
            self._end_probe()
            return f"compiling it takes more than {CHECK_LIMIT_CPU_S:g} s; simplify it"
        return str(json.loads(reply)["wrong"])

    def _start_probe(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._read(process, START_LIMIT_S) is None:
            process.kill()
            process.wait()
            raise ProbeFailed(f"its process did not start within {START_LIMIT_S:g} s")
        return process

    def _end_probe(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    @staticmethod
    def _write(process: subprocess.Popen[bytes], question: dict[str, str]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()

    @staticmethod
    def _read(process: subprocess.Popen[bytes], limit_s: float, cpu_until_s: float = math.inf) -> bytes | None:
        """One line, or None when it takes too long.

        Args:
            limit_s: seconds to wait at most.
            cpu_until_s: CPU time, in seconds, that the process may have used since its start.

        Raises:
            ProbeFailed: the process ended instead.
        """
        assert process.stdout is not None
        deadline = time.monotonic() + limit_s
        while not select.select([process.stdout], [], [], _LOOK_S)[0]:
            if time.monotonic() > deadline or _cpu_s(process.pid) > cpu_until_s:
                return None
        line = process.stdout.readline()
        if not line:
            raise ProbeFailed("its process ended unexpectedly; see Triton's log")
        return line


def _cpu_s(pid: int) -> float:
    """CPU time used by a process and its threads; 0 once it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
