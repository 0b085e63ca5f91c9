"""The judge finds what is wrong, and its figures are those of the right replies alone."""

from __future__ import annotations

import pytest

from loadtests.bench.asking import Asked
from loadtests.bench.judging import difference, judge, percentile_ms
from loadtests.bench.question import Question
from loadtests.bench.reply import Incomplete, Reads, Reply

UNARY, STREAM = Question("unary", 4), Question("burst", 4)


def reading(**replies: Reply) -> object:
    """A reader that knows what each reply says by its first bytes."""

    def read(reads: Reads) -> Reply:
        name = reads[0][1].decode()
        if name not in replies:
            raise Incomplete("cut off")
        return replies[name]

    return read


def asked(serial: int, name: str, *, began: float = 0.0, ended: float = 0.1) -> Asked:
    return Asked(serial, began, [(ended, name.encode())])


@pytest.mark.parametrize(
    ("text", "finish", "words"),
    [
        (UNARY.answer(7), "stop", ""),
        (UNARY.answer(7)[:-1], "stop", "text differs at 22 of 23"),
        (UNARY.answer(7) + "!", "stop", "text differs at 23 of 23: '!', not ''"),
        (UNARY.answer(8), "stop", "text differs at"),
        ("x" + UNARY.answer(7)[1:], "stop", "text differs at 0 of 23"),
        ("", "stop", "text differs at 0"),
        (UNARY.answer(7), "length", "finish_reason 'length'"),
        (UNARY.answer(7), "", "finish_reason ''"),
    ],
)
def test_one_letter_is_enough(text: str, finish: str, words: str) -> None:
    found = difference(Reply(text, finish), UNARY.answer(7))
    assert found.startswith(words)
    assert bool(found) == bool(words)


def test_right_wrong_and_missing_are_told_apart() -> None:
    read = reading(right=Reply(UNARY.answer(1), "stop"), other=Reply(UNARY.answer(3), "stop"))
    lost = Asked(4, 0.0, [(0.1, b"right")], error="the connection was lost")
    measured = judge([asked(1, "right"), asked(2, "other"), asked(3, "half"), lost], UNARY, read)
    assert (measured.requests, measured.work, measured.errors, measured.wrong) == (4, 1, 2, 1)
    assert [sample.partition(":")[0] for sample in measured.samples] == ["wrong", "error", "error"]


def test_problems_are_all_counted_but_few_are_shown() -> None:
    measured = judge([Asked(n, 0.0, error=f"problem {n}") for n in range(50)], UNARY, reading())
    assert measured.errors == 50
    assert len(measured.samples) == 3
    assert measured.p50_ms is None


def test_times_of_streams() -> None:
    slow = Reply(STREAM.answer(1), "stop", [1.25, 1.5, 2.25, 2.5])
    quick = Reply(STREAM.answer(2), "stop", [1.125, 1.25, 1.375, 1.5])
    measured = judge(
        [asked(1, "slow", began=1.0, ended=3.0), asked(2, "quick", began=1.0, ended=1.5)],
        STREAM,
        reading(slow=slow, quick=quick),
    )
    assert measured.work == 8
    assert (measured.p50_ms, measured.p99_ms) == (500.0, 2000.0)
    assert (measured.ttft_ms, measured.worst_gap_ms) == (125.0, 750.0)


@pytest.mark.parametrize(
    ("count", "share", "which"),
    [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (100, 0.99, 99), (101, 0.99, 100), (5, 1.0, 5)],
)
def test_percentiles(count: int, share: float, which: int) -> None:
    values = [float(value) for value in range(count, 0, -1)]
    assert percentile_ms(values, share) == which * 1000
