"""`penstock reload`: the config file, read again by the running gateway."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from gateway.cli.admin import ask_or_exit
from gateway.cli.decide import running_options, say_workers, state_folder


@click.command(epilog="Example: penstock reload")
@running_options
def reload(config_path: Path | None, state: str | None, as_json: bool) -> None:
    """Make the running gateway read its config file again; so does SIGHUP to its supervisor.

    Endpoints change while it serves; other keys need a restart and are named. A bad file is refused whole: nothing
    changes, the report is printed, and the exit code is 2.
    """
    answer = ask_or_exit(state_folder(config_path, state), "POST", "/reload")
    if as_json:
        click.echo(orjson.dumps(answer))
        return
    changed = answer["changed"]
    click.echo("the endpoints are as the config says now" if changed else "nothing has changed in the endpoints")
    for dropped in answer["dropped"]:
        click.echo(f"a live decision is dropped: {dropped}")
    if answer["restart"]:
        click.echo(f"changed, but not before a restart: {', '.join(answer['restart'])}", err=True)
    say_workers(answer)
