"""The bench's command: `python -m loadtests.bench`, or `make bench`."""

import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.bench import facts
from loadtests.bench.chart import write as write_charts
from loadtests.bench.contender import Contender
from loadtests.bench.direct import DirectOpenai, DirectTriton
from loadtests.bench.peers import PEERS
from loadtests.bench.penstock import Penstock
from loadtests.bench.results import Figure, Report
from loadtests.bench.rows import ROWS, Row
from loadtests.bench.sweep import Plan, obtain, sweep
from loadtests.bench.table import render
from loadtests.bench.upstreams import ROOT, SCRATCH, CannotBuild, upstreams

CONTENDERS: tuple[Contender, ...] = (Penstock(), *PEERS, DirectOpenai(), DirectTriton())
_EXAMPLE = "Example: python -m loadtests.bench --quick --only penstock --only vllm-router --row unary_c16"


@click.command(epilog=_EXAMPLE, context_settings={"max_content_width": 120})
@click.option("--quick", is_flag=True, help="The essential rows and contenders, shorter: under 5 minutes.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    type=click.Choice([contender.name for contender in CONTENDERS]),
    help="This contender; may be given several times. One of " + ", ".join(one.name for one in CONTENDERS) + ".",
)
@click.option(
    "--row",
    "row_names",
    multiple=True,
    metavar="NAME",
    type=click.Choice([row.name for row in ROWS]),
    help="This row; may be given several times. One of " + ", ".join(row.name for row in ROWS) + ".",
)
@click.option("--repeat", type=click.IntRange(1, 100), help="Interleaved repetitions.  [default: 3, with --quick 2]")
@click.option("--seconds", type=click.FloatRange(0.1, 600), help="Of each cell.  [default: 5, with --quick 1]")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Where the report goes.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of report and charts.")
def main(
    quick: bool,
    only: Sequence[str],
    row_names: Sequence[str],
    repeat: int | None,
    seconds: float | None,
    json_path: Path | None,
    out: Path | None,
) -> None:
    """Measure Penstock beside its peers: CPU, latency and memory per unit of work, every reply checked.

    What is missing is installed under .bench; what can't be had is left out with the reason. The last line of
    standard output is one JSON object of ratios, below 1 where Penstock is cheaper. Exit code 1: a reply was wrong or
    missing, or Penstock itself has no figures.
    """
    began = time.monotonic()
    contenders = [one for one in CONTENDERS if (one.name in only if only else one.quick or not quick)]
    rows: list[Row] = [row for row in ROWS if (row.name in row_names if row_names else row.quick or not quick)]
    plan = Plan(rows, repeat or (2 if quick else 3), seconds or (1.0 if quick else 5.0))
    report = Report(facts={**facts.machine(), **_facts(plan, quick)})
    console = Console(stderr=True)
    try:
        with _alone(), _progress(console) as progress:
            _measure(contenders, plan, _fresh(SCRATCH / "run"), report, progress)
    except (CannotBuild, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    report.facts["took_s"] = round(time.monotonic() - began)
    out = out or SCRATCH / "results"
    json_path = json_path or out / "report.json"
    report.write(json_path)
    render(report)
    for path in (json_path, *write_charts(report, out)):
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    for problem in report.problems():
        console.print(problem, style="red", markup=False, soft_wrap=True)
    print(json.dumps(report.ratios()))
    ours_missing = any(one.name in report.skipped for one in contenders if isinstance(one, Penstock))
    sys.exit(1 if report.wrong() or ours_missing else 0)


def _measure(contenders: Sequence[Contender], plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    task = progress.add_task("", total=len(plan.cells(contenders)))

    def say(words: str) -> None:
        progress.update(task, description=words)
        if not progress.console.is_terminal:  # a log has no bar, but lines
            progress.console.print(words, markup=False)

    def done(_: Figure | None) -> None:
        progress.advance(task)

    found = obtain(contenders, report, say)
    progress.update(task, total=len(plan.cells(found)))
    report.facts["versions"] = facts.versions([one.name for one in found])
    wanted = {contender.speaks for contender in found}
    with upstreams(folder, say, openai="openai" in wanted, triton="triton" in wanted) as addresses:
        sweep(found, plan, addresses, folder, report, say, done)
    say("done")


@contextmanager
def _alone() -> Iterator[None]:
    """Two at once would measure each other. Raises RuntimeError."""
    SCRATCH.mkdir(exist_ok=True)
    with (SCRATCH / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another bench is running in {SCRATCH}; wait for its end") from None
        yield


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _facts(plan: Plan, quick: bool) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "quick": quick,
        "repetitions": plan.repetitions,
        "seconds": plan.seconds,
        "rows": {row.name: row.says for row in plan.rows},
    }


def _revision() -> str:
    with suppress(OSError):
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""


if __name__ == "__main__":
    main()
