"""Options that several commands share, and the config they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.config import Config, Overrides, load

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_CONFIG = "penstock.toml"


def config_option(command: _Command) -> _Command:
    """`--config FILE`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"The config. Default: {DEFAULT_CONFIG} in this folder, else the built-in one (the embedded assistant).",
    )(command)


def json_option(command: _Command) -> _Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")(command)


def address_options(command: _Command) -> _Command:
    """`--http`, `--grpc`, `--metrics`, `--state`, `--workers`: they win over the config."""
    for name, meaning in (
        ("metrics", "Where /metrics listens."),
        ("grpc", "Where gRPC listens."),
        ("http", "Where OpenAI-compatible HTTP listens."),
    ):
        command = click.option(f"--{name}", metavar="HOST:PORT", help=meaning)(command)
    command = click.option("--state", metavar="DIR", help="The folder for state and logs.")(command)
    return click.option("--workers", metavar="N", help="Gateway processes. Default: one per core.")(command)


def find_config(path: Path | None) -> Path | None:
    """The file that a command reads; None for the built-in config."""
    return Path(DEFAULT_CONFIG) if path is None and Path(DEFAULT_CONFIG).is_file() else path


def load_config(path: Path | None, **flags: str | None) -> Config:
    """The config that a command works with. Errors: ConfigError."""
    return load(find_config(path), overrides=Overrides(**flags))
