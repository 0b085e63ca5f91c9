"""The command: its last line, its exit code, what it refuses."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from loadtests.bench import __main__ as command
from loadtests.bench.results import Figure, Report

Fill = Callable[[Report], None]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs the command with a measurement that does nothing but fill the report."""
    monkeypatch.setattr(command, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(command, "write_charts", lambda report, out: [])

    def run(fill: Fill, *arguments: str) -> Result:
        def measure(contenders: Any, plan: Any, folder: Path, report: Report, progress: Any) -> None:
            assert not list(folder.iterdir())
            (folder / "log").touch()  # of this run; the next one must not see it
            report.facts["seen"] = {"contenders": [one.name for one in contenders], "seconds": plan.seconds}
            fill(report)

        monkeypatch.setattr(command, "_measure", measure)
        return CliRunner().invoke(command.main, arguments)

    return run


def good(report: Report) -> None:
    report.figures += [
        Figure("unary_c16", name, 0, work=9, cpu_us=cpu) for name, cpu in (("penstock", 3.0), ("nginx", 6.0))
    ]


def bad(report: Report) -> None:
    good(report)
    report.figures[1].wrong = 1
    report.figures[1].samples = ["text differs"]


def without_penstock(report: Report) -> None:
    report.skipped["penstock"] = "there is no Triton"


def without_a_peer(report: Report) -> None:
    good(report)
    report.skipped["litellm"] = "no package"


@pytest.mark.parametrize(
    ("fill", "code", "ratios"),
    [
        (good, 0, {"unary_c16_vs_nginx": 0.5}),
        (bad, 1, {"unary_c16_vs_nginx": 0.5}),
        (without_penstock, 1, {}),
        (without_a_peer, 0, {"unary_c16_vs_nginx": 0.5}),
    ],
)
def test_the_last_line_is_the_ratios_and_the_exit_code_says_whether_to_trust_them(
    bench: Callable[..., Result], fill: Fill, code: int, ratios: dict[str, float]
) -> None:
    result = bench(fill, "--quick")
    assert result.exit_code == code, result.output
    assert json.loads(result.stdout.splitlines()[-1]) == ratios
    assert ("text differs" in result.stderr) == (fill is bad)


def test_the_report_is_kept_and_the_scratch_of_the_run_before_is_not(
    bench: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "elsewhere" / "figures.json"
    for _ in range(2):
        assert bench(good, "--only", "penstock", "--only", "nginx", "--json", str(path)).exit_code == 0
    report = Report.read(path)
    assert report.facts["seen"] == {"contenders": ["penstock", "nginx"], "seconds": 5.0}
    assert report.facts["repetitions"] == 3
    assert len(report.figures) == 2


def test_quick_leaves_out_the_slow_and_the_optional(bench: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert bench(good, "--quick", "--json", str(path)).exit_code == 0
    facts = Report.read(path).facts
    assert {"penstock", "vllm-router", "litellm", "nginx", "direct"} <= set(facts["seen"]["contenders"])
    assert "growth" not in facts["rows"]
    assert "portkey" not in facts["seen"]["contenders"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "apache"], "'apache' is not one of 'penstock'"),
        (["--row", "unary_c3"], "'unary_c3' is not one of 'unary_c16'"),
        (["--repeat", "0"], "0 is not in the range 1<=x<=100"),
        (["--seconds", "0"], "0 is not in the range"),
    ],
)
def test_what_there_is_not_is_refused_by_name(bench: Callable[..., Result], arguments: list[str], words: str) -> None:
    result = bench(good, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_two_at_once_would_measure_each_other(bench: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with (tmp_path / "scratch" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = bench(good)
    assert result.exit_code == 1
    assert "another bench is running" in result.stderr
