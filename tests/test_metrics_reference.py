"""docs/metrics.md cannot fall behind the table of metrics."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.metrics_names import METRICS
from gateway.metrics_reference import put_into, reference

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PROSE = DOCUMENT.partition("## Every metric")[0]
SUFFIXES = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def test_the_document_holds_the_reference() -> None:
    assert put_into(DOCUMENT) == DOCUMENT, "run: python -m gateway.metrics_reference docs/metrics.md"


def test_a_change_is_noticed() -> None:
    for old, new in (("`penstock_workers`", "`penstock_labourers`"), ("| gauge |", "| gorge |"), ("81.92", "80")):
        assert old in DOCUMENT
        changed = DOCUMENT.replace(old, new)
        assert put_into(changed) != changed
    with pytest.raises(ValueError, match="lacks the mark"):
        put_into("# no marks")


def test_the_command_prints_the_reference() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.metrics_reference"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert done.stdout == reference()


def test_every_metric_has_one_row() -> None:
    cells = [re.split(r" \| ", line.strip("| \n")) for line in reference().splitlines() if " | " in line]
    rows = [row for row in cells if len(row) == 5]
    assert [row[0] for row in rows] == ["metric", *(f"`{metric.name}`" for metric in METRICS)]
    for metric, row in zip(METRICS, rows[1:], strict=True):
        assert row[1:3] == [metric.kind, metric.unit]
        assert ("`worker`" in row[3]) == metric.per_worker
        assert metric.meaning in row[4]


def test_every_query_asks_for_what_there_is() -> None:
    series = {metric.name + suffix for metric in METRICS for suffix in SUFFIXES[metric.kind]}
    labels = {label for metric in METRICS for label in metric.labels} | {"le", "worker"}
    queries = "".join(re.findall(r"^```promql\n(.*?)^```", PROSE, re.DOTALL | re.MULTILINE))
    named = set(re.findall(r"\b(?:penstock|gen_ai)_\w+", queries))
    assert len(named) >= 6
    assert named <= series
    grouped = {name.strip() for names in re.findall(r"by \(([^)]*)\)", queries) for name in names.split(",")}
    assert grouped
    assert grouped | set(re.findall(r"[{,](\w+)=", queries)) <= labels
    assert set(re.findall(r"`(penstock_\w+)`", PROSE)) <= series
