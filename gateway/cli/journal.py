"""`penstock journal`: what was asked, what was answered, how long it took and what it cost."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import orjson
from msgspec import to_builtins
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from gateway.cli.journal_view import record_view, stats_view, tail_heading, tail_line, verdict_line
from gateway.cli.options import config_option, json_option, load_config
from gateway.journal.follow import Follower
from gateway.journal.reader import Tally, find, read, whole_ends
from gateway.journal.record import Record, encode_record
from gateway.journal.report import report
from gateway.journal.segments import journal_folder, list_segments
from gateway.journal.verify import verify as verdicts

LOOK_EVERY_S = 0.2
WORTH_A_BAR = 32 << 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--state DIR`: it alone leads to the journal, so no config is read for it."""
    return click.option("--state", metavar="DIR", help="The gateway's state folder. Default: the config's.")(command)


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no length of time; give a number and s, m, h or d, as in 90m or 7d.")
    return float(match[1]) * _UNITS[match[2]]


@click.group(epilog="Example: penstock journal tail -n 20")
def journal() -> None:
    """Read the journal: one record for every inference, however it ended."""


@journal.command(epilog="Example: penstock journal tail -n 5 -f")
@click.option("-n", "count", type=click.IntRange(0), default=10, show_default=True, help="How many records.")
@click.option("-f", "follow", is_flag=True, help="Go on with new records as they are written.")
@config_option
@state_option
@json_option
def tail(count: int, follow: bool, config_path: Path | None, state: str | None, as_json: bool) -> None:
    """Show the last records, the newest last."""
    folder = _folder(config_path, state)
    tally = Tally()
    with _readable(folder):
        ends = whole_ends(folder, tally)
        newest = list(islice(read(folder, newest_first=True, ends=ends, tally=tally), count))
    show = _print_json if as_json else _Lines().show
    for record in reversed(newest):
        show(record)
    _say_skipped(tally)
    if not follow:
        if not newest:
            _say(f"No records in {folder}.")
        return
    follower = Follower(folder, ends)
    with _readable(folder), contextlib.suppress(KeyboardInterrupt):  # it is how one leaves
        while True:
            for record in follower.look():
                show(record)
            time.sleep(LOOK_EVERY_S)


@journal.command(epilog="Example: penstock journal show chatcmpl-019f2c66e5ab12cd340000001")
@click.argument("wanted", metavar="ID")
@config_option
@state_option
@json_option
def show(wanted: str, config_path: Path | None, state: str | None, as_json: bool) -> None:
    """Show all of one record. ID is an answer's id or a request id. Exit code 1 when there is none."""
    folder = _folder(config_path, state)
    with _readable(folder):
        found = find(folder, wanted)
    if not found:
        _say(f"No record with the id or request id {wanted!r} in {folder}.")
        sys.exit(1)
    for record in found:
        if as_json:
            _print_json(record)
        else:
            Console().print(record_view(record))


@journal.command(epilog="Example: penstock journal stats --since 1h")
@click.option("--since", callback=_duration, metavar="TIME", help="Only what ended in the last TIME: 90s, 15m, 1h, 7d.")
@config_option
@state_option
@json_option
def stats(since: float | None, config_path: Path | None, state: str | None, as_json: bool) -> None:
    """Requests by outcome, latency, tokens, cost and share, for each endpoint and version."""
    folder = _folder(config_path, state)
    after = 0 if since is None else time.time_ns() - int(since * 1e9)
    with _readable(folder), _progress(folder) as seen:
        made = report(folder, since=after, seen=seen)
    figures = made.to_dict()
    if as_json:
        click.echo(orjson.dumps(figures))
    elif made.records:
        Console().print(stats_view(figures))
    if not made.records:
        _say(f"No records in {folder}{'' if since is None else ' in that time'}.")
    _say_skipped(made.skipped)


@journal.command(epilog="Example: penstock journal verify --json")
@config_option
@state_option
@json_option
def verify(config_path: Path | None, state: str | None, as_json: bool) -> None:
    """Check every byte of every segment. Exit code 1 when any is damaged."""
    folder = _folder(config_path, state)
    with _readable(folder), _progress(folder) as seen:
        found = list(verdicts(folder, seen))
    sound = all(verdict.sound for verdict in found)
    if as_json:
        segments = [{**to_builtins(verdict), "sound": verdict.sound} for verdict in found]
        click.echo(orjson.dumps({"sound": sound, "segments": segments}))
    else:
        for verdict in found:
            click.echo(verdict_line(verdict))
    if not found:
        _say(f"No segments in {folder}.")
    if not sound:
        sys.exit(1)


class _Lines:
    """A heading before the first record."""

    def __init__(self) -> None:
        self._begun = False

    def show(self, record: Record) -> None:
        if not self._begun:
            self._begun = True
            click.echo(tail_heading())
        click.echo(tail_line(record))


def _print_json(record: Record) -> None:
    click.echo(encode_record(record))


def _folder(config_path: Path | None, state: str | None) -> Path:
    if state == "":
        raise click.BadParameter("'' is no folder; name the gateway's state folder.", param_hint="--state")
    if state is not None and config_path is None:
        return journal_folder(Path(state))
    return journal_folder(load_config(config_path, state=state).server.state)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"The journal in {folder} can't be read: {error.strerror}.") from error


@contextlib.contextmanager
def _progress(folder: Path) -> Iterator[Callable[[int], None] | None]:
    console = Console(stderr=True)
    total = sum(segment.path.stat().st_size for segment in list_segments(folder) if segment.path.exists())
    if not console.is_terminal or total < WORTH_A_BAR:
        yield None
        return
    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda behind: progress.update(task, completed=behind)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _say_skipped(tally: Tally) -> None:
    if tally:
        _say(f"Skipped: {tally}. `penstock journal verify` says where.")
