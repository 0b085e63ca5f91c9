"""The desk over HTTP, on a Unix socket that only our own user may open.

GET  /endpoints, /status, /audit?n=
POST /endpoints/NAME/set      {"split": {VERSION: weight}, "why"}
POST /endpoints/NAME/pin      {"version": VERSION or null, "why"}
POST /endpoints/NAME/disable  {"version", "why"}; likewise enable
POST /endpoints/NAME/reset    {"why"}
POST /reload

Answers are JSON; an error is {"error": {"message", "param", "code"}} with the status of the error tree. Who asks is
what the kernel says of the other end of the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.config import Config, ConfigError
from gateway.control.desk import Decide, Desk
from gateway.core.errors import BadRequest, NotFound, PenstockError
from gateway.routing import live
from gateway.unix_sockets import Peer, peer_of

MAX_BODY_BYTES = 1 << 20
MAX_ENTRIES = 10_000
_WHY_CHARACTERS = 1000

_Body = TypeVar("_Body", bound="_Why")


class _Why(Struct, forbid_unknown_fields=True):
    why: str = ""


class _Split(_Why, kw_only=True, forbid_unknown_fields=True):
    split: dict[str, float]


class _Pin(_Why, kw_only=True, forbid_unknown_fields=True):
    version: str | None


class _Version(_Why, kw_only=True, forbid_unknown_fields=True):
    version: str


class AdminProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the app who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": peer_of(transport.get_extra_info("socket"))}


def make_admin_app(desk: Desk, load: Callable[[], Config]) -> Starlette:
    """The application. `load` reads the config file anew. Errors of `load`: ConfigError."""

    async def endpoints(_: Request) -> Response:
        return _json({"generation": desk.live.generation, "versions": desk.rows()})

    async def status(_: Request) -> Response:
        return _json(desk.status())

    async def audit(request: Request) -> Response:
        asked = request.query_params.get("n", "20")
        if not asked.isascii() or not asked.isdigit() or not 0 < int(asked[:9]) <= MAX_ENTRIES:
            raise BadRequest(f"n is '{asked[:20]}'; give a number from 1 to {MAX_ENTRIES}.", param="n")
        return _json({"entries": await asyncio.to_thread(desk.store.entries, int(asked))})

    async def change(request: Request) -> Response:
        name, action = request.path_params["name"], request.path_params["action"]
        data = await _read(request)
        why, decide = _decision(name, action, data)
        return _json(await desk.change(_who(request), action, name, decide, why))

    async def reload(request: Request) -> Response:
        return _json(await desk.reload(_who(request), load))

    return Starlette(
        routes=[
            Route("/endpoints", endpoints),
            Route("/status", status),
            Route("/audit", audit),
            Route("/endpoints/{name:path}/{action}", change, methods=["POST"]),
            Route("/reload", reload, methods=["POST"]),
        ],
        exception_handlers={PenstockError: _refused, ConfigError: _bad_config},
    )


def _decision(name: str, action: str, data: bytes) -> tuple[str, Decide]:
    """What a body asks for. Errors: BadRequest, NotFound."""
    if action == "set":
        split = _body(data, _Split)
        return split.why, partial(live.set_split, name=name, weights=split.split)
    if action == "pin":
        pin = _body(data, _Pin)
        return pin.why, partial(live.pin, name=name, version=pin.version)
    if action in ("disable", "enable"):
        one = _body(data, _Version)
        decide = live.disable if action == "disable" else live.enable
        return one.why, partial(decide, name=name, version=one.version)
    if action == "reset":
        return _body(data, _Why).why, partial(live.reset, name=name)
    raise NotFound(f"There is no action '{action[:40]}'; it is one of set, pin, disable, enable, reset.")


def _body(data: bytes, kind: type[_Body]) -> _Body:
    try:
        body = msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not what this action takes: {error}.") from None
    if len(body.why) > _WHY_CHARACTERS:
        raise BadRequest(
            f"why has {len(body.why)} characters; say it in at most {_WHY_CHARACTERS}.",
            param="why",
        )
    return body


async def _read(request: Request) -> bytes:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise BadRequest(f"The body is over {MAX_BODY_BYTES} bytes.")
    return data


def _who(request: Request) -> str:
    peer: Peer = request.state.peer
    return str(peer)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, PenstockError)
    return _json({"error": {"message": error.message, "param": error.param, "code": error.code}}, error.status)


async def _bad_config(_: Request, error: Exception) -> Response:
    return _json({"error": {"message": str(error), "param": None, "code": "bad_config"}}, 422)
