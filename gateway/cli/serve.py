"""`penstock serve`: the whole gateway."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from gateway.cli.options import address_options, config_option, find_config, json_option
from gateway.config import Overrides, load
from gateway.supervisor.run import CannotServe, Supervisor
from gateway.supervisor.talk import Talk


@click.command(epilog="Example: penstock serve --http 127.0.0.1:9080 --grpc 127.0.0.1:9081 --state /tmp/second")
@config_option
@address_options
@json_option
def serve(config_path: Path | None, as_json: bool, **flags: str | None) -> None:
    """Start Triton (unless engine.url names one) and the gateway. Ctrl-C ends both.

    With --json one line is printed on standard output once it is ready: the addresses it listens on.
    """
    source, overrides = find_config(config_path), Overrides(**flags)
    config = load(source, overrides=overrides)
    try:
        asyncio.run(Supervisor(config, Talk(as_json), source=source, overrides=overrides).run())
    except CannotServe as error:
        click.echo(f"penstock serve: {error}", err=True)
        sys.exit(1)
