"""Is there a gateway, and does it know the endpoint? Asked once, before a thousand users find out."""

from __future__ import annotations

import socket
from urllib.parse import quote

from geventhttpclient import HTTPClient

from loadtests.users.ask import KEY_VARIABLE, Ask, authorization
from loadtests.users.chat import fault_in_words

WAIT_S = 5


def find_gateway(ask: Ask, *, grpc: bool) -> str | None:
    """What stands in the way of a load test, with the remedy; None when nothing does."""
    key = authorization()
    client = HTTPClient.from_url(ask.host, connection_timeout=WAIT_S, network_timeout=WAIT_S)
    try:
        path = f"/v1/models/{quote(ask.model, safe='@/')}"
        with client.request("GET", path, headers={} if key is None else {"authorization": key}) as response:
            status = response.status_code
            response.read()
    except (OSError, ValueError) as error:
        return _nothing_at(ask.host, error)
    finally:
        client.close()
    if status in (401, 403):
        said = "is not set" if key is None else "holds a key that does not open this endpoint"
        return f"{ask.host} answers {status}: the environment variable {KEY_VARIABLE} {said}."
    if status != 200:
        return f"{ask.host} answers {status} when asked for the endpoint '{ask.model}': name another with --model."
    return _no_grpc(ask) if grpc else None


def _nothing_at(host: str, error: Exception) -> str:
    why = fault_in_words(error, WAIT_S) if isinstance(error, OSError) else "no HTTP"
    return f"no gateway at {host} ({why}): start one with `make serve`, or name another with --host."


def _no_grpc(ask: Ask) -> str | None:
    name, _, port = ask.grpc_host.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), WAIT_S).close()
    except (OSError, OverflowError):
        return (
            f"no gRPC at {ask.grpc_host}: name another address with --grpc-host, "
            "or leave GrpcStream out: end the command with ChatStream ChatUnary."
        )
    return None
