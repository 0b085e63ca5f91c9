"""The run itself: everyone is started, then repetition by repetition, row by row, each contender in turn.

Interleaved, so that whatever else the machine does meets all alike. A contender that can't be had, doesn't start or
breaks down is left out with the reason, and the others go on.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from gateway.supervisor.triton_ports import free_port
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.results import DIRECT, DIRECT_TRITON, Figure, Report
from loadtests.bench.rows import Row, measure


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. `seconds`: how long each cell begins new requests."""

    rows: Sequence[Row]
    repetitions: int
    seconds: float

    def cells(self, contenders: Sequence[Contender]) -> list[tuple[int, Row, Contender]]:
        """In the order of the measurement."""
        return [
            (repetition, row, contender)
            for repetition in range(self.repetitions)
            for row in self.rows
            if not (row.once and repetition)
            for contender in contenders
            if row.direct or contender.name not in (DIRECT, DIRECT_TRITON)
        ]


def obtain(contenders: Sequence[Contender], report: Report, say: Callable[[str], None]) -> list[Contender]:
    """Those that can be had here; why the others can't goes into the report."""
    found = []
    for contender in contenders:
        say(f"looking for {contender.name}")
        if reason := contender.obtain(say):
            report.skipped[contender.name] = reason
        else:
            found.append(contender)
    return found


def sweep(
    contenders: Sequence[Contender],
    plan: Plan,
    upstreams: Upstreams,
    folder: Path,
    report: Report,
    say: Callable[[str], None],
    done: Callable[[Figure | None], None],
) -> None:
    """Fills the report; `done` hears of each cell, with None for one that was left out."""
    with ExitStack() as started:
        running: dict[str, Running] = {}
        for contender in contenders:
            say(f"starting {contender.name}")
            scratch = folder / contender.name
            scratch.mkdir(parents=True, exist_ok=True)
            try:
                running[contender.name] = contender.start(upstreams, free_port(), scratch)
            except (OSError, RuntimeError) as error:
                report.skipped[contender.name] = f"did not start: {error}"
            else:
                started.callback(running[contender.name].stop)
        for repetition, row, contender in plan.cells(contenders):
            name = contender.name
            if name not in running:
                done(None)
                continue
            say(f"{repetition + 1} of {plan.repetitions}: {row.name}, {name}")
            try:
                figure = measure(row, name, running[name], repetition, plan.seconds)
            except (OSError, RuntimeError, TimeoutExpired) as error:
                report.skipped[name] = f"left out from {row.name} of repetition {repetition + 1} on: {error}"
                del running[name]
                done(None)
            else:
                report.figures.append(figure)
                done(figure)
