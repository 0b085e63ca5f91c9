"""Entry of `penstock`: the group, and the one door for errors of commands."""

from __future__ import annotations

import sys

import click

from gateway.cli.check import check
from gateway.cli.endpoints import endpoints
from gateway.cli.journal import journal
from gateway.cli.reload import reload
from gateway.cli.serve import serve
from gateway.cli.version import version
from gateway.config import ConfigError


@click.group(
    epilog="Example: penstock serve --http 127.0.0.1:8080",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def cli() -> None:
    """Penstock: an LLM inference gateway for NVIDIA Triton with TensorRT-LLM."""


for command in (serve, check, endpoints, reload, journal, version):
    cli.add_command(command)


def main() -> None:
    """Run; a bad config is exit code 2 with the whole report on stderr."""
    try:
        cli(prog_name="penstock")
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
