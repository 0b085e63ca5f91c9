"""What a run of requests came to: each reply whole and right, and the times of those that were."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from loadtests.bench.asking import Asked
from loadtests.bench.question import Question
from loadtests.bench.reply import Incomplete, Reads, Reply

SHOWN = 3
"""Problems that are told in words; all are counted."""


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
    measured.p50_ms, measured.p99_ms = percentile_ms(latencies, 0.5), percentile_ms(latencies, 0.99)
    measured.ttft_ms = percentile_ms(firsts, 0.5)
    measured.worst_gap_ms = percentile_ms(gaps, 1.0)
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


def percentile_ms(values: Sequence[float], share: float) -> float | None:
    """In milliseconds: the smallest value that this share of all does not exceed."""
    if not values:
        return None
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)] * 1000, 4)
