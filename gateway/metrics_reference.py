"""The table of docs/metrics.md, made from the metrics so that it cannot fall behind them.

`python -m gateway.metrics_reference` prints it; with the path of a Markdown file it puts it between the two marks
there, and leaves the rest of the file alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.metrics_names import METRICS, Metric

BEGIN = "<!-- begin: python -m gateway.metrics_reference docs/metrics.md -->"
END = "<!-- end -->"


def reference() -> str:
    """Markdown: a table of all metrics, and one of the histograms' edges."""
    rows = [_row(metric) for metric in METRICS]
    edges = [f"| `{one.name}` | {_edges(one)} |" for one in METRICS if one.edges]
    return "\n".join(
        [
            "| metric | type | unit | labels | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "| histogram | upper edges in seconds |",
            "|---|---|",
            *edges,
            "",
        ]
    )


def put_into(document: str) -> str:
    """`document` with what stands between the marks replaced. Errors: ValueError when a mark is missing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document lacks the mark {END if begin else BEGIN}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def _row(metric: Metric) -> str:
    names = (*metric.labels, "worker") if metric.per_worker else metric.labels
    labels = ", ".join(f"`{name}`" for name in names) or "none"
    convention = f" OpenTelemetry: `{metric.convention}`." if metric.convention else ""
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning}{convention} |"


def _edges(metric: Metric) -> str:
    return ", ".join(f"{edge / 1e9:g}" for edge in metric.edges)


def main() -> None:
    """Print the reference, or put it into the files that are named."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")
    if not sys.argv[1:]:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main()
