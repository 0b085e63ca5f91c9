"""What the printed table says of a made-up report."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from loadtests.bench.results import DIRECT, DIRECT_TRITON, OURS, Figure, Report
from loadtests.bench.table import number, render


def printed(report: Report, width: int = 160) -> list[str]:
    page = io.StringIO()
    render(report, Console(file=page, width=width))
    return page.getvalue().splitlines()


def line(lines: list[str], name: str, table: int) -> list[str]:
    """The cells of the line that begins with `name`, in the table of that number."""
    found = [one for one in lines if one.startswith("│") and one.strip("│").split("│")[0].strip() == name]
    return [cell.strip() for cell in found[table].strip("│").split("│")]


def below(lines: list[str], name: str, table: int) -> list[str]:
    """The cells under those: ranges."""
    first = [one for one in lines if one.startswith("│") and one.strip("│").split("│")[0].strip() == name][table]
    return [cell.strip() for cell in lines[lines.index(first) + 1].strip("│").split("│")]


@pytest.fixture
def report() -> Report:
    made = Report(facts={"cpu": "EPYC", "cores": 2, "revision": "", "repetitions": 3})
    for repetition, cpu in enumerate((20.0, 30.0, 40.0)):
        made.figures += [
            Figure("unary_c16", "litellm", repetition, 10, cpu * 100, peak_mib=400.0),
            Figure("unary_c16", OURS, repetition, 10, cpu, peak_mib=41.0, worker_mib=20.5),
            Figure("unary_c1", OURS, repetition, 10, cpu, p50_ms=0.5, p99_ms=0.4, peak_mib=42.0),
            Figure("unary_c1", "litellm", repetition, 10, cpu, p50_ms=11.2, wrong=2),
            Figure("unary_c1", DIRECT, repetition, 10, p50_ms=0.1, p99_ms=0.2),
            Figure("unary_c1", DIRECT_TRITON, repetition, 10, p50_ms=0.45, p99_ms=0.5),
        ]
    return made


def test_ratios_come_first_then_ours(report: Report) -> None:
    lines = printed(report)
    assert lines[0].strip() == "Penstock ÷ peer, below 1 is cheaper"
    assert line(lines, "litellm", 0) == ["litellm", "0.010×", "0.105×"]
    names = [one.strip("│").split("│")[0].strip() for one in lines if one.startswith("│")]
    assert [name for name in names if name] == ["litellm", OURS, "litellm"]  # ratios; figures, without the upstreams


def test_medians_have_their_ranges_and_latency_is_over_the_own_upstream(report: Report) -> None:
    lines = printed(report)
    heads = [one for one in lines if one.startswith("┃")]
    assert [cell.strip() for cell in heads[1].strip("┃").split("┃")] == [
        *["", "unary c16", "added p50", "added p99", "peak", "worker", "errors", "wrong"]
    ]
    assert line(lines, OURS, 0) == [OURS, "30.0", "+0.050", "−0.100", "42.0", "20.5", "0", "0"]
    assert below(lines, OURS, 0)[1] == "20.0–40.0"
    assert line(lines, "litellm", 1) == ["litellm", "3,000", "+11.1", "–", "400", "–", "0", "6"]


def test_one_repetition_has_no_range(report: Report) -> None:
    report.figures = [figure for figure in report.figures if figure.repetition == 0]
    assert not [one for one in printed(report) if "20.0–" in one]


def test_who_is_missing_and_where_it_was_measured(report: Report) -> None:
    report.skipped["nginx"] = "could not be installed: no [bold]luck[/]"
    lines = printed(report)
    assert lines[-2] == "nginx is missing: could not be installed: no [bold]luck[/]"
    assert lines[-1] == "EPYC · 2 cores · 3 repetitions"


def test_growth_is_a_column_of_its_own(report: Report) -> None:
    report.figures.append(Figure("growth", OURS, 0, 100, 25.0, growth_mib=0.4))
    lines = printed(report)
    assert "growth" in " ".join(lines)
    assert line(lines, OURS, 0)[6] == "0.400"


@pytest.mark.parametrize(
    "report_", [Report(), Report(figures=[Figure("unary_c1", DIRECT, 0, 10, p50_ms=0.1)], skipped={OURS: "no Triton"})]
)
def test_nothing_to_show_is_no_error(report_: Report) -> None:
    assert [one for one in printed(report_) if one.startswith("│")] == []


def test_in_a_pipe_no_line_is_broken(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    render(report)
    lines = capsys.readouterr().out.splitlines()
    assert line(lines, "litellm", 1)[1] == "3,000"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0432, "0.043"), (4.351, "4.35"), (43.51, "43.5"), (435.1, "435"), (4351.2, "4,351"), (-2.5, "-2.50")],
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert number(value) == text
