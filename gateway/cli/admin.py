"""Asks the control process of a running gateway, over the socket in its state folder."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import orjson

from gateway.orders import ADMIN_SOCKET
from gateway.unix_sockets import connect_unix

TIMEOUT_S = 30.0


class NotRunning(Exception):
    """No gateway runs with this state folder."""


class Refused(Exception):
    """The gateway says no; the message is its own. `bad_config` when it is the config that it refused."""

    def __init__(self, message: str, *, bad_config: bool) -> None:
        super().__init__(message)
        self.bad_config = bad_config


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("penstock", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = connect_unix(self._path, TIMEOUT_S)


def ask(state: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The answer of the gateway whose state folder is `state`. Errors: NotRunning, Refused."""
    connection = _UnixConnection(state / ADMIN_SOCKET)
    try:
        connection.request(method, path, orjson.dumps(body) if body is not None else None)
        with connection.getresponse() as answer:
            data = orjson.loads(answer.read())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning(f"no gateway runs with the state folder {state}; name another with --state DIR") from error
    except PermissionError as error:
        raise Refused(
            f"only the user who runs the gateway may open {state / ADMIN_SOCKET}", bad_config=False
        ) from error
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise Refused(
            f"the control process did not answer ({str(error) or type(error).__name__}); it may be starting again: "
            "look with `penstock endpoints` whether the change was made, and try once more",
            bad_config=False,
        ) from error
    finally:
        connection.close()
    if answer.status >= 400:
        said = data["error"]
        raise Refused(str(said["message"]), bad_config=said["code"] == "bad_config")
    return data


def ask_or_exit(state: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """As `ask`; its errors end the command: exit code 2 for a bad config, else 1."""
    try:
        return ask(state, method, path, body)
    except NotRunning as error:
        fail(str(error))
    except Refused as error:
        fail(str(error), 2 if error.bad_config else 1)


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with a message on stderr."""
    click.echo(message, err=True)
    sys.exit(code)
