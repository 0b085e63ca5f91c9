"""The workloads: one row each, and how one of them is put to one contender."""

import json
import subprocess
import sys
from dataclasses import dataclass

from loadtests.bench.contender import Running
from loadtests.bench.question import Question
from loadtests.bench.results import Figure
from loadtests.bench.upstreams import ROOT

_PATIENCE_S = 300.0
_TEXT = 48
"""Tokens of a unary answer: some 290 bytes."""
_PER_GROWTH = 100_000


@dataclass(frozen=True, slots=True)
class Row:
    """One workload: a closed loop of `concurrency` connections."""

    name: str
    says: str
    question: Question
    concurrency: int
    warmup: int
    """Requests before the measured part."""
    quick: bool = True
    direct: bool = False
    """Measured of the upstreams alone, too: for what a gateway adds."""
    requests: int = 1_000_000
    """At most so many, within the time."""
    seconds: float = 0.0
    """How long, where it isn't for the caller to say."""
    once: bool = False
    """Not repeated."""


ROWS = (
    Row("unary_c16", "whole answers, 16 at a time", Question("unary", _TEXT), 16, 300),
    Row("unary_c1", "whole answers, one after another", Question("unary", _TEXT), 1, 100, direct=True),
    Row("stream_step_c64", "64 streams of 64 tokens, all on one 5 ms clock", Question("step", 64), 64, 64, direct=True),
    Row("stream_burst_c16", "16 streams of 64 tokens, back to back", Question("burst", 64), 16, 64),
    Row("stream_c1", "one stream of 16 tokens after another", Question("burst", 16), 1, 50, direct=True),
    Row(
        "growth",
        "100,000 whole answers: memory before and after",
        Question("unary", _TEXT),
        16,
        2000,
        quick=False,
        requests=_PER_GROWTH,
        seconds=120.0,
        once=True,
    ),
)


def measure(row: Row, name: str, running: Running, repetition: int, seconds: float) -> Figure:
    """One cell, by a load client in a process of its own; new requests begin for `seconds`.

    Raises RuntimeError, with the client's last words, when there are no figures.
    """
    command = [sys.executable, "-m", "loadtests.bench.load", "--json"]
    options = {
        "url": running.base_url,
        "model": running.model,
        "mode": row.question.mode,
        "tokens": row.question.tokens,
        "concurrency": row.concurrency,
        "warmup": row.warmup,
        "requests": row.requests,
        "seconds": row.seconds or seconds,
        "pid": running.pid,
    }
    command += [f"--{option}={value}" for option, value in options.items()]
    command += [f"--header={header}:{value}" for header, value in running.headers.items()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    try:
        measured = json.loads(done.stdout)
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}, without a word"])[-1]
        raise RuntimeError(f"{row.name}: the load client gave no figures: {last}") from None
    return figure(row, name, repetition, measured)


def figure(row: Row, name: str, repetition: int, measured: dict[str, object]) -> Figure:
    """Out of what the load client printed: memory growth counts in the row that is about it, and per 100,000."""
    requests, growth = measured.pop("requests"), measured.pop("growth_mib")
    made = Figure(row.name, name, repetition, **measured)  # type: ignore[arg-type]  # the client's names are Figure's
    if row.name == "growth" and isinstance(growth, int | float) and isinstance(requests, int) and requests:
        made.growth_mib = round(growth * _PER_GROWTH / requests, 2)
    return made
