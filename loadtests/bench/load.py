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
import sys
import time
from dataclasses import asdict

import uvloop

from loadtests.bench.asking import GRACE_S, Run, Target, clock
from loadtests.bench.judging import Measured, judge
from loadtests.bench.load_http import HttpTarget
from loadtests.bench.question import Question
from loadtests.bench.usage import Usage, usage

REST_S = 0.15
"""After the last reply: what a contender puts off (logs, records) is its work too."""


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
        from loadtests.bench.load_triton import TritonTarget  # with protobuf, which no other row needs

        return TritonTarget(url.removeprefix("grpc://"), model, question)
    return HttpTarget(url, model, headers, question)


if __name__ == "__main__":
    main()
