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

from gateway.cli.options import address_options, config_option, json_option, load_config
from gateway.config import Config

TIMEOUT_S = 2.0


@click.command(epilog="Example: penstock endpoints --json")
@config_option
@address_options
@json_option
def endpoints(config_path: Path | None, as_json: bool, **flags: str | None) -> None:
    """List endpoints, their versions and shares; asks the running gateway for each version's state."""
    config = load_config(config_path, **flags)
    states = _ask(config)
    rows = list(_rows(config, states))
    if as_json:
        click.echo(orjson.dumps({"running": states is not None, "versions": rows}))
        return
    table = Table("endpoint", "version", "share", "engine model", "determinism", "state", box=None)
    for row in rows:
        model = f"{row['model']}:{row['model_version']}" if row["model_version"] else row["model"]
        table.add_row(row["endpoint"], row["version"], f"{row['share']:.1%}", model, row["determinism"], row["state"])
    Console().print(table)


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


def _ask(config: Config) -> dict[str, Any] | None:
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
