"""What is drawn of a made-up report, and where: here, in an environment of its own, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench import chart, install
from loadtests.bench.chart import Bar, Panel, panels, write
from loadtests.bench.results import DIRECT, DIRECT_TRITON, OURS, Figure, Report

ROOT = Path(__file__).parents[2]
MATPLOTLIB = install.ENVIRONMENTS / "chart" / "bin" / "python"


@pytest.fixture
def report() -> Report:
    made = Report(facts={"cpu": "EPYC"})
    for repetition, cpu in enumerate((20.0, 30.0, 50.0)):
        made.figures += [
            Figure("unary_c16", OURS, repetition, 10, cpu, peak_mib=41.0),
            Figure("unary_c16", "litellm", repetition, 10, cpu * 20, peak_mib=400.0),
            Figure("unary_c16", "nginx", repetition, 10, cpu / 2, peak_mib=13.0),
            Figure("unary_c1", OURS, repetition, 10, cpu, p50_ms=0.5),
            Figure("unary_c1", DIRECT_TRITON, repetition, 10, p50_ms=0.45),
            Figure("unary_c1", DIRECT, repetition, 10, p50_ms=0.1),
        ]
    return made


def test_panels_have_the_cheapest_first_and_no_upstreams(report: Report) -> None:
    unary, added, memory = panels(report)
    assert unary.title == "Unary, 16 at a time"
    assert unary.bars == [
        Bar("nginx", 15.0, 10.0, 25.0),
        Bar(OURS, 30.0, 20.0, 50.0),
        Bar("litellm", 600.0, 400.0, 1000.0),
    ]
    assert added.bars == [Bar(OURS, 0.05, 0.05, 0.05)]
    assert [bar.contender for bar in memory.bars] == ["nginx", OURS, "litellm"]


@pytest.mark.parametrize(
    ("values", "logarithmic"), [((1.0, 19.0), False), ((1.0, 20.0), True), ((0.0, 90.0), False), ((-1.0, 90.0), False)]
)
def test_scales_are_logarithmic_where_the_spread_demands_it(values: tuple[float, ...], logarithmic: bool) -> None:
    panel = Panel("", "", [Bar(str(value), value, value, value) for value in values])
    assert panel.logarithmic is logarithmic


def test_an_empty_report_is_not_drawn(tmp_path: Path) -> None:
    assert write(Report(), tmp_path) == []


def test_without_matplotlib_there_is_a_word(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    monkeypatch.setattr(install, "python_environment", lambda name, say: f"{name}: no network")
    assert write(report, tmp_path) == []
    assert capsys.readouterr().err == "no chart: matplotlib chart: no network\n"


@pytest.mark.parametrize("fails", [False, True])
def test_it_is_drawn_where_matplotlib_is(
    fails: bool, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "envs" / "chart" / "bin" / "python"
    python.parent.mkdir(parents=True)
    script = (
        "echo Traceback >&2; echo no fonts >&2; exit 1" if fails else 'cp "$3" "$4/seen.json"; touch "$4/bench.svg"'
    )
    python.write_text(f'#!/bin/sh\ntest "$1 $2" = "-m loadtests.bench.chart" || exit 9\n{script}\n')
    python.chmod(0o755)
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    monkeypatch.setattr(install, "ENVIRONMENTS", tmp_path / "envs")
    monkeypatch.setattr(install, "python_environment", lambda name, say: "")
    out = tmp_path / "out"
    written = write(report, out)
    assert not (out / "chart.json").exists()
    if fails:
        assert written == []
        assert capsys.readouterr().err == "no chart: no fonts\n"
    else:
        assert written == [out / "bench.png", out / "bench.svg"]
        assert json.loads((out / "seen.json").read_text())["facts"] == {"cpu": "EPYC"}


def test_the_file_needs_the_standard_library_only() -> None:
    """It runs in an environment that holds matplotlib and nothing of the bench's."""
    command = [sys.executable, "-S", "-c", "import loadtests.bench.chart"]  # -S: no site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not MATPLOTLIB.exists(), reason="matplotlib isn't installed: make bench does it")
@pytest.mark.timeout(600)  # matplotlib takes 2 s of CPU, and lists the machine's fonts when it is new
def test_the_picture_names_everyone(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "report.json")
    command = [MATPLOTLIB, "-m", "loadtests.bench.chart", tmp_path / "report.json", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "bench.svg").read_text()
    assert [word for word in (OURS, "litellm", "nginx", "CPU µs per request, logarithmic") if word not in text] == []
