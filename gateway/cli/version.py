"""`penstock version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as package_version

import click
import orjson

import gateway
from gateway.cli.options import json_option

_PARTS = ("uvicorn", "starlette", "uvloop", "orjson", "msgspec", "grpcio", "tritonclient")


@click.command(epilog="Example: penstock version --json")
@json_option
def version(as_json: bool) -> None:
    """Print Penstock's version and those of the parts it runs on."""
    parts = {"python": platform.python_version(), **{name: package_version(name) for name in _PARTS}}
    if as_json:
        click.echo(orjson.dumps({"penstock": gateway.__version__, "parts": parts}))
        return
    click.echo(f"penstock {gateway.__version__}")
    for name, number in parts.items():
        click.echo(f"  {name} {number}")
