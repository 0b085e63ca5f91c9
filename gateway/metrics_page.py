"""The metrics page in Prometheus' text format, version 0.0.4, from sums by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.metrics_names import METRICS, Metric

Series = Mapping[tuple[str, ...], list[int]]


def render_page(sums: Mapping[str, Series]) -> str:
    """Every family of the table with its samples. The series' keys are label values: the metric's, then the worker."""
    lines: list[str] = []
    for metric in METRICS:
        lines.append(f"# HELP {metric.name} {_escape_help(metric.meaning)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        names = (*metric.labels, "worker") if metric.per_worker else metric.labels
        for values, figures in sorted(sums.get(metric.field, {}).items()):
            pairs = [f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)]
            lines += _histogram(metric, pairs, figures) if metric.edges else [_sample(metric, pairs, figures[0])]
    return "\n".join(lines) + "\n"


def _sample(metric: Metric, pairs: list[str], figure: int) -> str:
    return f"{metric.name}{_braces(pairs)} {_decimal(figure, metric.digits)}"


def _histogram(metric: Metric, pairs: list[str], figures: list[int]) -> Iterator[str]:
    *counts, total = figures
    running = 0
    for edge, count in zip((*(str(edge / 1e9) for edge in metric.edges), "+Inf"), counts, strict=True):
        running += count
        bucket = _braces([*pairs, f'le="{edge}"'])
        yield f"{metric.name}_bucket{bucket} {running}"
    yield f"{metric.name}_sum{_braces(pairs)} {_decimal(total, metric.digits)}"
    yield f"{metric.name}_count{_braces(pairs)} {running}"


def _braces(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _decimal(figure: int, digits: int) -> str:
    # By hand: a float of nano-dollars or microseconds would round.
    if not digits:
        return str(figure)
    whole, rest = divmod(figure, 10**digits)
    return f"{whole}.{rest:0{digits}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
