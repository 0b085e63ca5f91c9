"""Carries a plan out: a thread per request that hands over tokens until the end, a fault or a cancel.

Knows nothing of tensors: a model passes callables in. Cancellation is looked for every 100 ms, the stock
models' `cancellation_check_period_ms`, and never after the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from imitations.events import Events
from imitations.plan import HANG_LIMIT_S, Plan
from imitations.tokens import encode

CANCEL_PERIOD_S = 0.1
Finish = Literal["stop", "length", "cancelled"]

TRACEBACK = """Traceback (most recent call last):
  File "/opt/models/tensorrt_llm_bls/1/model.py", line 95, in execute
    for res in res_gen:
  File "/opt/models/tensorrt_llm_bls/1/lib/decode.py", line 227, in decode
    raise Exception("secret-internal-detail")
Exception: secret-internal-detail
"""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class Faulted(Exception):
    """The plan wants an error here; the message is its text."""


@dataclass
class Job:
    """One request.

    `send` takes (new tokens, finish or None, whether to set the final flag); `end` sends the bare final flag;
    `fail` an error with the final flag.
    """

    request_id: str
    plan: Plan
    max_tokens: int
    streaming: bool
    send: Callable[[Sequence[int], Finish | None, bool], None]
    end: Callable[[], None]
    fail: Callable[[str], None]
    is_cancelled: Callable[[], bool]
    stop_lists: Sequence[Sequence[int]] = ()
    stopped: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    looked_at: float = 0.0


class Generator:
    """Runs jobs; knows the running ones by their request id."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._jobs: dict[str, Job] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, job: Job) -> None:
        """Begin a request."""
        thread = threading.Thread(target=self._work, args=(job,))
        with self._lock:
            self._jobs[job.request_id or str(id(job))] = job
            self._threads.add(thread)
        self._events.write("started", job.request_id)
        thread.start()

    def stop(self, request_id: str) -> bool:
        """End a running request as its cancellation would; whether there was one."""
        with self._lock:
            job = self._jobs.get(request_id)
        if job is not None:
            job.stopped.set()
        return job is not None

    def close(self) -> None:
        """End all requests and their threads."""
        with self._lock:
            jobs, threads = list(self._jobs.values()), list(self._threads)
        for job in jobs:
            job.stopped.set()
        for thread in threads:
            thread.join()

    def _work(self, job: Job) -> None:
        try:
            ended = self._answer(job)
        except Cancelled:
            ended = "cancelled"
            job.send((), "cancelled", True)
        except Faulted as fault:
            ended = "failed"
            job.fail(str(fault))
        finally:
            with self._lock:
                self._jobs.pop(job.request_id or str(id(job)), None)
                self._threads.discard(threading.current_thread())
        self._events.write(
            "cancelled" if ended == "cancelled" else "finished", job.request_id, how=ended, tokens=job.sent
        )

    def _answer(self, job: Job) -> str:
        tokens = encode(job.plan.text)
        finish: Finish = "length" if len(tokens) >= job.max_tokens else "stop"
        tokens = tokens[: job.max_tokens]
        cut = _first_stop(tokens, job.stop_lists)
        if cut is not None:
            tokens, finish = tokens[:cut], "stop"
        size = job.plan.chunk if job.streaming else max(1, len(tokens))
        if job.plan.fault == "nothing":
            job.end()
            return "nothing"
        for start in range(0, len(tokens), size):
            self._wait(job, job.plan.pace_s * (1 if job.streaming else len(tokens)))
            self._fault(job, start)
            part = tokens[start : start + size]
            is_last = start + size >= len(tokens)
            alone = job.plan.final_alone or job.plan.fault == "no-final"
            job.sent += len(part)
            job.send(part, finish if is_last else None, is_last and not alone)
        if job.plan.fault == "no-final":
            self._wait(job, HANG_LIMIT_S)
        if not tokens or job.plan.final_alone or job.plan.fault == "no-final":
            job.end()
        return finish

    def _fault(self, job: Job, position: int) -> None:
        plan = job.plan
        if position < plan.after and job.streaming:
            return
        if plan.fault == "error":
            raise Faulted("Encountered an error in the forward pass")
        if plan.fault == "traceback":
            raise Faulted(TRACEBACK)
        if plan.fault == "hang":
            self._wait(job, HANG_LIMIT_S)

    def _wait(self, job: Job, seconds: float) -> None:
        """Wait, and look for a cancel: at least once, and every CANCEL_PERIOD_S."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now - job.looked_at >= CANCEL_PERIOD_S:
                job.looked_at = now
                if job.is_cancelled():
                    raise Cancelled
            if job.stopped.is_set():
                raise Cancelled
            if now >= until:
                return
            job.stopped.wait(min(until - now, CANCEL_PERIOD_S))


def _first_stop(tokens: Sequence[int], stop_lists: Sequence[Sequence[int]]) -> int | None:
    """Where the answer ends because its last tokens are a stop word; the stop word stays in."""
    for end in range(1, len(tokens) + 1):
        for stop in stop_lists:
            if len(stop) <= end and list(tokens[end - len(stop) : end]) == list(stop):
                return end
    return None
