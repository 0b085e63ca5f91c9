"""How records and figures look to a person. Text of clients is shown without its control characters."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.journal.record import Record
from gateway.journal.verify import Verdict

# All that may move a cursor or turn the reading direction: a prompt is no friend of a terminal.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_TAIL = "{:<19}  {:<25}  {:<24}  {:<9}  {:>6}  {:>6}  {:>9}  {:>9}  {}"
MS = 1_000_000
USD = 1_000_000_000


def plain(text: str) -> str:
    """Harmless on a terminal; line ends and tabs stay."""
    return _CONTROLS.sub("\ufffd", text)


def tail_heading() -> str:
    """Above `tail_line`s."""
    return _TAIL.format("received (UTC)", "id", "version", "outcome", "in", "out", "TTFT", "total", "").rstrip()


def tail_line(record: Record) -> str:
    """One record in one line: for what failed, why; else the answer's beginning."""
    said = record.failure.message if record.failure is not None else next((one.text for one in record.choices), "")
    line = _TAIL.format(
        _moment(record.at),
        record.id,
        f"{record.endpoint}@{record.version}" if record.version else record.model or "-",
        record.outcome,
        _or_dash(record.prompt_tokens),
        _or_dash(record.completion_tokens),
        _ms(record.first_text),
        _ms(record.ended),
        " ".join(said[:160].split())[:60],
    )
    return plain(line.replace("\n", " ").replace("\t", " ")).rstrip()


def record_view(record: Record) -> RenderableType:
    """Everything that is known of one record."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in _facts(record):
        facts.add_row(name, Text(plain(value)))
    parts: list[RenderableType] = [facts]
    for message in record.messages:
        parts += _passage(message.role, message.content or _json(message.tool_calls))
    for prompt in record.prompts:
        parts += _passage("prompt", prompt)
    for number, choice in enumerate(record.choices):
        parts += _passage(f"answer {number} ({choice.finish or 'no end'})", choice.text)
    return Group(*parts)


def stats_view(figures: dict[str, Any]) -> RenderableType:
    """The figures of `Report.to_dict`: what came, then how long it took. Both fit into 80 columns."""
    counts = _table("requests", "share", "tokens in", "out", "cost USD")
    counts.add_column("outcomes", overflow="fold")
    times = _table("TTFT ms", "TPOT ms", "total ms")
    for row in figures["versions"]:
        name = Text(plain(f"{row['endpoint']}@{row['version']}" if row["version"] else "(none chosen)"))
        counts.add_row(
            name,
            str(row["requests"]),
            "-" if row["share"] is None else f"{row['share']:.1%}",
            str(row["prompt_tokens"]),
            str(row["completion_tokens"]),
            "unpriced" if row["cost_nano_usd"] is None else f"{row['cost_nano_usd'] / USD:.6f}",
            ", ".join(f"{count} {outcome}" for outcome, count in row["outcomes"].items()),
        )
        times.add_row(name, *(_percentiles(row[which]) for which in ("ttft_ms", "tpot_ms", "total_ms")))
    span = f"{figures['records']} records, {_moment(figures['first'])} to {_moment(figures['last'])} UTC"
    return Group(counts, "", times, Text(f"\n{span}\nLatencies are p50/p95/p99, within 2 %.", style="dim"))


def verdict_line(verdict: Verdict) -> str:
    """One segment: sound or not, and where not."""
    troubles = [f"{size} bytes damaged at offset {offset}" for offset, size in verdict.damaged]
    troubles += [f"no record in the frame at offset {offset}" for offset in verdict.unreadable]
    if verdict.unknown:
        troubles.append("of a format that this Penstock does not know")
    if verdict.torn:
        troubles.append(f"{verdict.torn} bytes {'are being written' if verdict.in_use else 'torn'} at the end")
    state = "sound" if verdict.sound else "DAMAGED"
    use = ", in use" if verdict.in_use else ""
    line = f"{verdict.segment}: {state}{use}, {verdict.frames} records, {verdict.bytes} bytes"
    return "\n  ".join([line, *troubles])


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _facts(record: Record) -> list[tuple[str, str]]:
    failure, trace, sampling = record.failure, record.trace, record.sampling
    per_token = record.per_token
    said = [] if sampling is None else [(name, getattr(sampling, name)) for name in sampling.__struct_fields__]
    used = [f"{name}={value}" for name, value in said if value is not None and value is not False and value != ()]
    facts = [
        ("id", record.id),
        ("request id", record.request_id),
        ("received", f"{_moment(record.at)} UTC"),
        ("outcome", record.outcome),
        ("error", f"{failure.status} {failure.code}: {failure.message}" if failure else ""),
        ("model asked", record.model),
        ("version", f"{record.endpoint}@{record.version}" if record.version else ""),
        ("chosen by", record.reason),
        ("fingerprint", record.fingerprint),
        ("came by", f"{record.face} {record.dialect}, worker {record.worker}{', streamed' if record.stream else ''}"),
        ("api key", record.api_key),
        ("sticky key", record.key_hash),
        ("sampling", ", ".join(used)),
        ("determinism", record.determinism),
        ("guide", record.guide),
        ("replica", record.replica),
        ("tokens", f"{_or_dash(record.prompt_tokens)} in, {_or_dash(record.completion_tokens)} out"),
        ("sent upstream", _ms_or_nothing(record.sent)),
        ("TTFT", _ms_or_nothing(record.first_text)),
        ("TPOT", "" if per_token is None else f"{per_token / MS:.2f} ms"),
        ("worst gap", _ms_or_nothing(record.worst_gap)),
        ("total", _ms(record.ended)),
        ("cost", "" if record.cost is None else f"{record.cost} nano-USD, price {record.price}"),
        ("trace", f"{trace.trace} span {trace.span}" if trace else ""),
        ("content kept", record.content),
    ]
    return [(name, value) for name, value in facts if value]


def _table(*figures: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("version", overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _passage(heading: str, text: str) -> list[RenderableType]:
    return [Text(f"\n{plain(heading)}", style="bold"), Text(plain(text))]


def _percentiles(values: dict[str, float | None]) -> str:
    known = [value for value in values.values() if value is not None]
    return "/".join(f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in known) or "-"


def _moment(at: int | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _ms(value: int | None) -> str:
    return "-" if value is None else f"{value / MS:.1f} ms"


def _ms_or_nothing(value: int | None) -> str:
    return "" if value is None else _ms(value)
