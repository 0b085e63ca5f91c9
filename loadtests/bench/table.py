"""The report as a person reads it: ratios first, then one table of medians with their ranges, then who is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.bench.results import ADDED, OURS, Report, Spread

WIDTH = 150
"""Characters a line where nobody's terminal says otherwise: in a file or a pipe."""


class Column(NamedTuple):
    """One measured column: the row and the measure of Figure behind it."""

    title: str
    unit: str
    row: str
    measure: str = "cpu_us"


CPU = (
    Column("unary c16", "µs/request", "unary_c16"),
    Column("step c64", "µs/token", "stream_step_c64"),
    Column("burst c16", "µs/token", "stream_burst_c16"),
)
"""CPU time per unit of work, of all processes of a contender: what the promise is about."""
GROWTH = Column("growth", "MiB/100k", "growth", "growth_mib")
MEMORY = (("peak", "peak_mib"), ("worker", "worker_mib"))
"""Peak resident memory over all rows: of all processes, and of the largest."""


def render(report: Report, console: Console | None = None) -> None:
    """Prints it, on standard output unless told otherwise."""
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
    for table in (ratios(report), figures(report)):
        if table.columns and table.row_count:
            console.print(table)
    for name, reason in report.skipped.items():
        console.print(f"[yellow]{escape(name)} is missing:[/] {escape(reason)}")
    console.print(footer(report), style="dim", markup=False)


def ratios(report: Report) -> Table:
    """Penstock's medians divided by each peer's; below 1 it is cheaper."""
    known = report.ratios()
    titles = {f"{column.row}_vs_": f"{column.title}" for column in CPU}
    titles |= {"peak_memory_vs_": "peak memory", "worker_memory_vs_": "worker memory"}
    shown = {key: title for key, title in titles.items() if any(name.startswith(key) for name in known)}
    table = Table(title="Penstock ÷ peer, below 1 is cheaper", title_justify="left")
    table.add_column("peer")
    for title in shown.values():
        table.add_column(title, justify="right")
    for peer in report.peers():
        values = [known.get(f"{key}{peer.replace('-', '_')}") for key in shown]
        if any(value is not None for value in values):
            table.add_row(peer, *map(_ratio, values))
    return table


def figures(report: Report) -> Table:
    """A line per gateway, ours first; columns that nobody has figures for are left out."""
    columns = list(_columns(report))
    contenders = [name for name in (OURS, *report.peers()) if name in report.contenders()]
    table = Table(title="CPU per unit of work, latency added to the upstream alone, memory", title_justify="left")
    table.add_column("contender")
    for title, unit, _ in columns:
        table.add_column(f"{title}\n[dim]{unit}[/]", justify="right")
    for name in contenders:
        cells = [column[name] or "–" for _, _, column in columns]
        table.add_row(name, *cells, style="bold" if name == OURS else None)
    return table


def footer(report: Report) -> str:
    """Where and when it was measured, in a line."""
    facts = report.facts
    parts = [
        str(facts[key]) if unit is None else f"{facts[key]} {unit}"
        for key, unit in (
            ("cpu", None),
            ("cores", "cores"),
            ("kernel", None),
            ("revision", None),
            ("when", None),
            ("repetitions", "repetitions"),
            ("load_before", "load before"),
        )
        if facts.get(key) not in (None, "")
    ]
    return " · ".join(parts)


def _columns(report: Report) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Title, unit, and each contender's cell, '' where it has none."""
    names = report.contenders()
    for column in CPU:
        yield from _filled(column.title, column.unit, {name: _spread(_of(report, column, name)) for name in names})
    for ratio, row, measure in ADDED:
        title = ratio.removeprefix("added_").removesuffix("_ms").replace("_", " ")
        cells = {name: _signed(report.added(row, name, measure)) for name in [OURS, *report.peers()]}
        yield from _filled(f"added {title}", "ms", dict.fromkeys(names, "") | cells)
    for title, measure in MEMORY:
        yield from _filled(title, "MiB", {name: _number(report.peak(name, measure)) for name in names})
    yield from _filled(GROWTH.title, GROWTH.unit, {name: _spread(_of(report, GROWTH, name)) for name in names})
    for title, measure in (("errors", "errors"), ("wrong", "wrong")):
        count = {name: sum(getattr(one, measure) for one in report.figures if one.contender == name) for name in names}
        yield title, "replies", {name: f"[red]{sum_}[/]" if sum_ else "0" for name, sum_ in count.items()}


def _filled(title: str, unit: str, cells: dict[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    if any(cells.values()):
        yield title, unit, cells


def _of(report: Report, column: Column, contender: str) -> Spread | None:
    return report.medians(column.row, contender, column.measure)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    alone = spread.low == spread.high
    return (
        number(spread.median)
        if alone
        else f"{number(spread.median)}\n[dim]{number(spread.low)}–{number(spread.high)}[/]"
    )


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _signed(value: float | None) -> str:
    return "" if value is None else f"{'+' if value >= 0 else '−'}{number(abs(value))}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "–"
    return f"[{'green' if value <= 1 else 'red'}]{number(value)}×[/]"


def number(value: float) -> str:
    """Three figures, as a person writes them: 0.043, 4.35, 43.5, 4,350."""
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"
