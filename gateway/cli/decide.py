"""`penstock endpoints set | pin | unpin | disable | enable | reset | log`: decisions about a running gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.cli.admin import ask_or_exit, fail
from gateway.cli.options import config_option, json_option, load_config

_Command = TypeVar("_Command", bound=Callable[..., Any])

_endpoint = click.argument("endpoint")
_version = click.argument("version")
_why = click.option("--why", default="", metavar="TEXT", help="The reason, for the log.")


def running_options(command: _Command) -> _Command:
    """`--config`, `--state` and `--json`, of commands that ask the running gateway."""
    state = click.option("--state", metavar="DIR", help="The running gateway's state folder.")
    return config_option(state(json_option(command)))


def state_folder(config_path: Path | None, state: str | None) -> Path:
    """Where the running gateway keeps its state. A config is read only when nobody names the folder.

    Flags of the group (`penstock endpoints --state DIR set …`) count too. Errors: ConfigError.
    """
    parent = click.get_current_context().parent
    given = parent.params if parent is not None else {}
    state = state or given.get("state")
    if state:
        return Path(state).absolute()
    return load_config(config_path or given.get("config_path")).server.state


@click.command("set", epilog="Example: penstock endpoints set assistant v1=90 v2=10 --why 'canary'")
@_endpoint
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=WEIGHT...")
@_why
@running_options
def set_(endpoint: str, weights: tuple[str, ...], why: str, **options: Any) -> None:
    """Change weights. Shares are relative; versions that are not named keep their weight. Ends a pin."""
    split: dict[str, float] = {}
    for given in weights:
        version, equals, weight = given.partition("=")
        try:
            split[version] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not version:
            fail(f"'{given}' is no VERSION=WEIGHT; write, for example, v2=10")
        if not 0 <= split[version] < float("inf"):
            fail(f"the weight of {version} is {weight}; give a number from 0 up")
    _decide(endpoint, "set", {"split": split, "why": why}, **options)


@click.command(epilog="Example: penstock endpoints pin assistant v2")
@_endpoint
@_version
@_why
@running_options
def pin(endpoint: str, version: str, why: str, **options: Any) -> None:
    """Send all traffic to one version, whatever the weights; requests that pin another still get it."""
    _decide(endpoint, "pin", {"version": version, "why": why}, **options)


@click.command(epilog="Example: penstock endpoints unpin assistant")
@_endpoint
@_why
@running_options
def unpin(endpoint: str, why: str, **options: Any) -> None:
    """The weights hold again."""
    _decide(endpoint, "pin", {"version": None, "why": why}, **options)


@click.command(epilog="Example: penstock endpoints disable assistant v2 --why 'wrong answers'")
@_endpoint
@_version
@_why
@running_options
def disable(endpoint: str, version: str, why: str, **options: Any) -> None:
    """Send no traffic to a version, not even what asks for it by name."""
    _decide(endpoint, "disable", {"version": version, "why": why}, **options)


@click.command(epilog="Example: penstock endpoints enable assistant v2")
@_endpoint
@_version
@_why
@running_options
def enable(endpoint: str, version: str, why: str, **options: Any) -> None:
    """End a disable: the version has its weight again."""
    _decide(endpoint, "enable", {"version": version, "why": why}, **options)


@click.command(epilog="Example: penstock endpoints reset assistant")
@_endpoint
@_why
@running_options
def reset(endpoint: str, why: str, **options: Any) -> None:
    """Forget all live decisions about an endpoint: as the config file says."""
    _decide(endpoint, "reset", {"why": why}, **options)


@click.command(epilog="Example: penstock endpoints log -n 5")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@running_options
def log(count: int, config_path: Path | None, state: str | None, as_json: bool) -> None:
    """Who changed what, when and why: the newest decisions, the newest last. With --json, one on a line."""
    entries = ask_or_exit(state_folder(config_path, state), "GET", f"/audit?n={count}")["entries"]
    if as_json:
        for entry in entries:
            click.echo(orjson.dumps(entry))
        return
    if not entries:
        click.echo("nothing was decided yet", err=True)
        return
    table = Table("when (UTC)", "who", "action", "endpoint", "from", "to", "why", box=None)
    for entry in entries:
        cells = [entry["at"][:19].replace("T", " "), entry["who"], entry["action"], entry["endpoint"]]
        cells += [in_words(entry["from"]), in_words(entry["to"]), entry["why"]]
        table.add_row(*map(escape, cells))
    Console().print(table)


COMMANDS: tuple[click.Command, ...] = (set_, pin, unpin, disable, enable, reset, log)


def in_words(value: Any) -> str:
    """What an audit entry has as from or to: `v1=90 v2=10, pinned to v2, without v3`."""
    if not isinstance(value, dict):
        return ""
    parts = [" ".join(f"{version}={weight:g}" for version, weight in (value.get("split") or {}).items())]
    if value.get("pin"):
        parts.append(f"pinned to {value['pin']}")
    if value.get("disabled"):
        parts.append(f"without {', '.join(value['disabled'])}")
    return ", ".join(filter(None, parts))


def say_workers(answer: dict[str, Any]) -> None:
    """On stderr, the workers that do not serve it yet."""
    late = [str(worker["worker"]) for worker in answer["workers"] if not worker["applied"]]
    late += [str(index) for index in answer["absent"]]
    if late:
        click.echo(f"not yet taken over by worker {', '.join(late)}; it will when it answers again", err=True)


def _decide(
    endpoint: str, action: str, body: dict[str, Any], config_path: Path | None, state: str | None, as_json: bool
) -> None:
    folder = state_folder(config_path, state)
    answer = ask_or_exit(folder, "POST", f"/endpoints/{quote(endpoint, safe='/')}/{action}", body)
    if as_json:
        click.echo(orjson.dumps(answer))
        return
    if answer["changed"]:
        click.echo(f"{endpoint}: {in_words(answer['to'])} (was {in_words(answer['from'])})")
    else:
        click.echo(f"{endpoint}: {in_words(answer['to'])}, as before")
    say_workers(answer)
