"""The load client: asks one contender, keeps every byte with its time, and checks all of it after the clock stopped.

It runs in a process of its own, so that its CPU is in nobody's figures, and reads the contender's CPU from outside at
the edges of the measured part: after the warm-up, and again when the last reply is in and the contender is at rest.
Closed loop: `--concurrency` connections with one request in flight on each.

    python -m loadtests.bench.load --url http://127.0.0.1:8080/v1 --model assistant --mode step --tokens 64 \
        --concurrency 64 --seconds 3 --pid 1234 --json

`--url grpc://HOST:PORT` asks Triton itself, without a gateway. Exit code 1 when any reply was wrong or missing.
"""

import argparse
import asyncio
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Protocol

import uvloop

from loadtests.bench.question import Question
from loadtests.bench.reply import Incomplete, Reads, Reply
from loadtests.bench.usage import Usage, usage

REST_S = 0.15
"""After the last reply: what a contender puts off (logs, records) is its work too."""
GRACE_S = 60.0
"""For requests in flight after the time is up; what then has no reply is an error."""
SHOWN = 3

clock = time.perf_counter


class Link(Protocol):
    """A way to the contender that takes one request at a time and tells its run of the end."""

    def ask(self, serial: int) -> None:
        """Begins a request. `Run.ended` hears of its end once."""
        ...

    def close(self) -> None: ...


class Target(Protocol):
    """What links are made to. `read` raises Incomplete."""

    async def connect(self, run: "Run") -> Link: ...

    def read(self, reads: Reads) -> Reply: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Asked:
    """One request and what came of it."""

    serial: int
    began: float
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True)
class Measured:
    """What `--json` prints. Times in milliseconds; None where there is nothing to measure."""

    requests: int = 0
    work: int = 0
    seconds: float = 0.0
    cpu_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    ttft_ms: float | None = None
    worst_gap_ms: float | None = None
    peak_mib: float | None = None
    worker_mib: float | None = None
    growth_mib: float | None = None
    errors: int = 0
    wrong: int = 0
    samples: list[str] = field(default_factory=list)
    client_cpu_us: float = 0.0


class Run:
    """Keeps `concurrency` links busy until `limit` requests were asked or the time is up."""

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._links: list[Link] = []
        self._serial = 0
        self._left = 0
        self._until = 0.0
        self._closed = False
        self._busy: dict[Link, Asked] = {}
        self._replacing: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None]
        self.asked: list[Asked] = []

    async def connect(self) -> None:
        """Raises OSError."""
        self._links = [await self._target.connect(self) for _ in range(self._concurrency)]

    async def go(self, limit: int, seconds: float) -> list[Asked]:
        """Everything that was asked, in the order of its ends. Requests without a reply are errors."""
        self.asked = []
        self._left = limit
        self._until = clock() + seconds
        self._over = asyncio.get_running_loop().create_future()
        for link in list(self._links):
            self._next(link)
        try:
            async with asyncio.timeout(seconds + GRACE_S):
                await self._over
        except TimeoutError:
            for asked in self._busy.values():
                asked.error = f"no end after {GRACE_S:g} s"
                self.asked.append(asked)
            self._busy.clear()
        return self.asked

    def close(self) -> None:
        """No more requests, no more links."""
        self._closed = True
        for link in self._links:
            link.close()

    def begin(self, link: Link, serial: int) -> Asked:
        """A link says that its request goes out now."""
        asked = self._busy[link] = Asked(serial, clock())
        return asked

    def ended(self, link: Link, error: str = "", *, lost: bool = False) -> None:
        """A link says that its request is over; `lost`: and so is the link, which is then replaced."""
        if self._closed:
            return
        asked = self._busy.pop(link, None)
        if asked is not None:
            asked.error = error
            self.asked.append(asked)
        elif error:
            self.asked.append(Asked(0, clock(), error=error))
        if lost:
            self._links.remove(link)
            replacing = asyncio.get_running_loop().create_task(self._replace())
            self._replacing.add(replacing)
            replacing.add_done_callback(self._replacing.discard)
        elif asked is not None:
            self._next(link)

    def _next(self, link: Link) -> None:
        if self._left > 0 and clock() < self._until:
            self._left -= 1
            self._serial += 1
            link.ask(self._serial)
        elif not self._busy and not self._over.done():
            self._over.set_result(None)

    async def _replace(self) -> None:
        try:
            link = await self._target.connect(self)
        except OSError as error:
            self.asked.append(Asked(0, clock(), error=f"no connection: {error}"))
            if not self._busy and not self._over.done():
                self._over.set_result(None)
            return
        self._links.append(link)
        self._next(link)


def judge(asked: Sequence[Asked], question: Question, read: Callable[[Reads], Reply]) -> Measured:
    """Checks every reply; the figures are of those that were right."""
    measured = Measured(requests=len(asked))
    latencies, firsts, gaps = [], [], []
    for one in asked:
        try:
            if one.error:
                raise Incomplete(one.error)
            reply = read(one.reads)
        except Incomplete as error:
            measured.errors += 1
            _show(measured, f"error: {error}")
            continue
        if (problem := difference(reply, question.answer(one.serial))) != "":
            measured.wrong += 1
            _show(measured, f"wrong: {problem}")
            continue
        latencies.append(one.reads[-1][0] - one.began)
        if question.streams:
            times = reply.texts_at
            firsts.append(times[0] - one.began)
            gaps.append(max((after - before for before, after in pairwise(times)), default=0.0))
    measured.work = len(latencies) * (question.tokens if question.streams else 1)
    measured.p50_ms, measured.p99_ms = _percentile(latencies, 0.5), _percentile(latencies, 0.99)
    measured.ttft_ms = _percentile(firsts, 0.5)
    measured.worst_gap_ms = _percentile(gaps, 1.0)
    return measured


def difference(reply: Reply, answer: str) -> str:
    """'' for the very answer and a finish of "stop", else where they part."""
    if reply.text != answer:
        same = next((at for at, (one, other) in enumerate(zip(reply.text, answer, strict=False)) if one != other), None)
        at = min(len(reply.text), len(answer)) if same is None else same
        return f"text differs at {at} of {len(answer)}: {reply.text[at : at + 30]!r}, not {answer[at : at + 30]!r}"
    return "" if reply.finish == "stop" else f"finish_reason {reply.finish!r}"


def _show(measured: Measured, problem: str) -> None:
    if len(measured.samples) < SHOWN and problem not in measured.samples:
        measured.samples.append(problem)


def _percentile(values: Sequence[float], share: float) -> float | None:
    """In milliseconds: the smallest value that this share of all does not exceed."""
    if not values:
        return None
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)] * 1000, 4)


async def measure(
    target: Target, question: Question, *, concurrency: int, warmup: int, requests: int, seconds: float, pid: int
) -> Measured:
    """One row against one contender; at most `requests` and `seconds`. Raises OSError, ProcessLookupError."""
    run = Run(target, concurrency)
    await run.connect()
    try:
        early = await run.go(warmup, GRACE_S)
        await asyncio.sleep(REST_S)
        gc.collect()
        gc.disable()
        before, mine, began = usage(pid), time.process_time(), clock()
        asked = await run.go(requests, seconds)
        took, mine = clock() - began, time.process_time() - mine
        await asyncio.sleep(REST_S)
        after = usage(pid)
        gc.enable()
    finally:
        run.close()
        await target.close()
    measured = judge(asked, question, target.read)
    at_first = judge(early, question, target.read)
    measured.errors += at_first.errors
    measured.wrong += at_first.wrong
    measured.samples += at_first.samples
    measured.seconds = round(took, 3)
    measured.client_cpu_us = round(mine / max(1, measured.work) * 1e6, 2)
    if pid and measured.work:
        _account(measured, before, after)
    return measured


def _account(measured: Measured, before: Usage, after: Usage) -> None:
    measured.cpu_us = round((after.cpu_s - before.cpu_s) / measured.work * 1e6, 3)
    measured.peak_mib = round(after.peak_mib, 1)
    measured.worker_mib = round(after.largest_mib, 1)
    measured.growth_mib = round(after.rss_mib - before.rss_mib, 1)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="http://HOST:PORT/v1 of a gateway or grpc://HOST:PORT of Triton")
    parser.add_argument("--model", default="bench")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="sent with each request")
    parser.add_argument("--mode", choices=("unary", "step", "burst"), default="unary")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer (default: 48, some 290 bytes)")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long new requests begin")
    parser.add_argument("--requests", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--warmup", type=int, default=200, help="requests before the measured part")
    parser.add_argument("--pid", type=int, default=0, help="root of the process tree whose CPU and memory count")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    question = Question(options.mode, options.tokens)
    headers = dict(header.split(":", 1) for header in options.header)
    target = _target(options.url, options.model, headers, question)
    measured = uvloop.run(
        measure(
            target,
            question,
            concurrency=options.concurrency,
            warmup=options.warmup,
            requests=options.requests,
            seconds=options.seconds,
            pid=options.pid,
        )
    )
    if options.json:
        print(json.dumps(asdict(measured)))
    else:
        for name, value in asdict(measured).items():
            print(f"{name:15} {value}")
    sys.exit(1 if measured.errors or measured.wrong else 0)


def _target(url: str, model: str, headers: dict[str, str], question: Question) -> Target:
    if url.startswith("grpc://"):
        from loadtests.bench.load_triton import TritonTarget

        return TritonTarget(url.removeprefix("grpc://"), model, question)
    from loadtests.bench.load_http import HttpTarget

    return HttpTarget(url, model, headers, question)


if __name__ == "__main__":
    main()
