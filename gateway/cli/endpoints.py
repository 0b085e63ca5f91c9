"""`penstock endpoints`: what clients can ask for, who answers with which share, and whether it is ready."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.admin import NotRunning, Refused, ask
from gateway.cli.decide import COMMANDS
from gateway.cli.options import address_options, config_option, json_option, load_config
from gateway.config import Config

TIMEOUT_S = 2.0


@click.group(invoke_without_command=True, epilog="Example: penstock endpoints --json")
@config_option
@address_options
@json_option
@click.pass_context
def endpoints(context: click.Context, /, config_path: Path | None, as_json: bool, **flags: str | None) -> None:
    """List endpoints, their versions and shares as the running gateway has them, or change them while it runs.

    Without a running gateway, the list is the config's. Changes hold until the config file's split is changed.
    """
    if context.invoked_subcommand is not None:
        return
    config = load_config(config_path, **flags)
    running, rows = _ask_control(config)
    if not running:
        states = _ask_http(config)
        running, rows = states is not None, _rows(config, states)
    if as_json:
        click.echo(orjson.dumps({"running": running, "versions": rows}))
        return
    table = Table("endpoint", "version", "share", "engine model", "determinism", "state", box=None)
    for row in rows:
        model = f"{row['model']}:{row['model_version']}" if row["model_version"] else row["model"]
        share = f"{row['share']:.1%}" + (" (pinned)" if row.get("pinned") else "")
        table.add_row(row["endpoint"], row["version"], share, model, row["determinism"], row["state"])
    Console().print(table)


for command in COMMANDS:
    endpoints.add_command(command)


def _ask_control(config: Config) -> tuple[bool, list[dict[str, Any]]]:
    try:
        answer = ask(config.server.state, "GET", "/endpoints")
    except NotRunning:
        return False, []
    except Refused as error:
        click.echo(f"the live state is not known, and the config's is shown: {error}", err=True)
        return False, []
    rows: list[dict[str, Any]] = answer["versions"]
    return True, rows


def _rows(config: Config, states: dict[str, Any] | None) -> list[dict[str, Any]]:
    rows = []
    for endpoint in config.endpoints.values():
        total = sum(endpoint.split.values())
        for version in endpoint.versions.values():
            state = (states or {}).get(version.label)
            rows.append(
                {
                    "endpoint": endpoint.name,
                    "version": version.name,
                    "share": endpoint.split.get(version.name, 0) / total,
                    "model": version.model,
                    "model_version": version.model_version,
                    "determinism": version.determinism,
                    "state": "gateway not running" if state is None else "ready" if state["ready"] else state["reason"],
                }
            )
    return rows


def _ask_http(config: Config) -> dict[str, Any] | None:
    # None when no gateway answers at the config's address; that is a state to show, not an error.
    url = f"http://{config.server.http}/ready"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()  # 503: it runs and says what is not ready
    except OSError:
        return None
    try:
        versions: dict[str, Any] = orjson.loads(body)["versions"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return versions
