"""`penstock check`: is the config good, and what does it mean?"""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import config_option, json_option, load_config
from gateway.config import describe, to_json


@click.command(epilog="Example: penstock check --config penstock.toml")
@config_option
@json_option
def check(config_path: Path | None, as_json: bool) -> None:
    """Validate a config and say in words what it means. Exit code 2 when it is refused."""
    config = load_config(config_path)
    click.echo(to_json(config) if as_json else describe(config))
