"""The report as a picture: bars of CPU per unit of work, of latency added and of memory, as PNG and SVG.

Matplotlib draws them. Where the bench's own environment lacks it, `.bench/envs/chart` gets it, and this file runs
there: so it imports nothing but the standard library and `results`.

    python -m loadtests.bench.chart REPORT.json FOLDER
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.bench.results import OURS, Report

NAMES = ("bench.png", "bench.svg")
LOG_FROM = 20.0
"""From this ratio of longest to shortest on, bars are drawn on a logarithmic scale."""
_INK, _OURS, _THEIRS = "#1f2933", "#0b7285", "#adb5bd"


@dataclass(frozen=True, slots=True)
class Bar:
    """One contender's median, and its range over the repetitions."""

    contender: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure of all contenders, the cheapest first."""

    title: str
    unit: str
    bars: Sequence[Bar]

    @property
    def logarithmic(self) -> bool:
        """Whether the spread demands it, and the values allow it."""
        values = [bar.value for bar in self.bars]
        return min(values) > 0 and max(values) / min(values) >= LOG_FROM


def panels(report: Report) -> list[Panel]:
    """What there is to be drawn; panels without bars are left out."""
    cpu = (
        ("Unary, 16 at a time", "CPU µs per request", "unary_c16"),
        ("Streams, all on one 5 ms clock, 64", "CPU µs per token", "stream_step_c64"),
        ("Streams, back to back, 16", "CPU µs per token", "stream_burst_c16"),
    )
    drawn = [(title, unit, _measured(report, row)) for title, unit, row in cpu]
    drawn.append(("Latency added, median, one at a time", "ms per request", _added(report, "unary_c1", "p50_ms")))
    drawn.append(("Latency added, 99th percentile", "ms per request", _added(report, "unary_c1", "p99_ms")))
    drawn.append(("Peak memory, all processes", "MiB", _peaks(report)))
    return [
        Panel(title, unit, sorted(bars, key=lambda bar: (bar.value, bar.contender)))
        for title, unit, bars in drawn
        if bars
    ]


def write(report: Report, folder: Path) -> list[Path]:
    """Draws `bench.png` and `bench.svg` into `folder`; none, and a word on standard error, where it can't be done."""
    folder.mkdir(parents=True, exist_ok=True)
    if not panels(report):
        return []
    if find_spec("matplotlib") is not None:
        return draw(report, folder)
    from loadtests.bench import install

    if reason := install.python_environment("chart", _say):
        _say(f"no chart: matplotlib {reason}")
        return []
    content = folder / "chart.json"
    report.write(content)
    python = install.ENVIRONMENTS / "chart" / "bin" / "python"
    command = [str(python), "-m", "loadtests.bench.chart", str(content.resolve()), str(folder.resolve())]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    content.unlink()
    if done.returncode:
        _say(f"no chart: {(done.stderr.strip().splitlines() or ['matplotlib ended without a word'])[-1]}")
        return []
    return [folder / name for name in NAMES]


def draw(report: Report, folder: Path) -> list[Path]:
    """The drawing itself, by matplotlib."""
    import matplotlib as mpl  # type: ignore[import-not-found]  # not in the bench's own environment

    mpl.use("agg")
    from matplotlib import pyplot as plt

    mpl.rcParams |= {"svg.hashsalt": "penstock", "svg.fonttype": "none", "font.size": 9, "text.color": _INK}
    shown = panels(report)
    columns = min(3, len(shown))
    lines = math.ceil(len(shown) / columns)
    height = 0.9 + lines * (0.9 + 0.26 * max(len(panel.bars) for panel in shown))
    figure, grid = plt.subplots(lines, columns, figsize=(4.4 * columns, height), squeeze=False, layout="constrained")
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid.flat, shown, strict=False):
        _draw(axes, panel)
    figure.suptitle("Penstock beside its peers: less is better", x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(_caption(report), fontsize=7, color="#697586", x=0.01, ha="left")
    written = [folder / name for name in NAMES]
    for path in written:
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return written


def _draw(axes: Any, panel: Panel) -> None:
    names = [bar.contender for bar in panel.bars]
    values = [bar.value for bar in panel.bars]
    colours = [_OURS if name == OURS else _THEIRS for name in names]
    ranges = [[bar.value - bar.low for bar in panel.bars], [bar.high - bar.value for bar in panel.bars]]
    reach = ranges if any(map(any, ranges)) else None
    whiskers = {"ecolor": "#697586", "elinewidth": 0.8, "capsize": 2}
    drawn = axes.barh(names, values, color=colours, xerr=reach, error_kw=whiskers, height=0.7)
    axes.bar_label(drawn, labels=[f" {_number(value)}" for value in values], padding=4, fontsize=8)
    axes.invert_yaxis()
    scale = ", logarithmic" if panel.logarithmic else ""
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, max(bar.high for bar in panel.bars) * 6)
    else:
        axes.margins(x=0.25)
    axes.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlabel(f"{panel.unit}{scale}", fontsize=8, color="#697586")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=7)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == OURS else "normal")


def _measured(report: Report, row: str) -> list[Bar]:
    spreads = {name: report.medians(row, name) for name in [OURS, *report.peers()]}
    return [Bar(name, *spread) for name, spread in spreads.items() if spread is not None]


def _added(report: Report, row: str, measure: str) -> list[Bar]:
    added = {name: report.added(row, name, measure) for name in [OURS, *report.peers()]}
    return [Bar(name, value, value, value) for name, value in added.items() if value is not None]


def _peaks(report: Report) -> list[Bar]:
    peaks = {name: report.peak(name) for name in [OURS, *report.peers()]}
    return [Bar(name, value, value, value) for name, value in peaks.items() if value is not None]


def _caption(report: Report) -> str:
    facts = report.facts
    parts = [f"{facts[key]}{unit}" for key, unit in _CAPTION if facts.get(key) not in (None, "")]
    return " · ".join([*parts, "one worker, one thread each; bars are medians, whiskers ranges"])


_CAPTION = (("cpu", ""), ("cores", " cores"), ("kernel", ""), ("revision", ""), ("when", ""))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _say(words: str) -> None:
    print(words, file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault("MPLCONFIGDIR", str(Path(sys.prefix) / "matplotlib"))  # its list of fonts stays in .bench
    draw(Report.read(Path(sys.argv[1])), Path(sys.argv[2]))
