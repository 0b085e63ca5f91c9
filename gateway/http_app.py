"""The Starlette side of the public port: models, health, readiness, and the errors of every other route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.errors import BadRequest, Internal, MethodNotAllowed, NotFound, PenstockError
from gateway.dialects.openai_wire import error_body
from gateway.dialects.registry import DIALECTS
from gateway.http_reply import make_request_id
from gateway.keys import identify, visible
from gateway.routing.resolve import find_endpoint, route
from gateway.routing.version import Endpoint

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gateway.service import Service


def make_app(service: Service, started: int) -> Starlette:
    """The application. `started` is the gateway's start in Unix seconds, shown as the models' creation time."""

    def endpoints_of(request: Request) -> Mapping[str, Endpoint]:
        key = identify(service.keyring, request.headers.get("authorization"))
        return visible(service.snapshot.endpoints, key.allowed)

    async def list_models(request: Request) -> Response:
        endpoints = endpoints_of(request).values()
        return _json({"object": "list", "data": [_model(endpoint, endpoint.name, started) for endpoint in endpoints]})

    async def retrieve_model(request: Request) -> Response:
        name = request.path_params["model"]
        endpoint, pin = find_endpoint(endpoints_of(request), name)
        if pin is not None:
            route(endpoint, pin, None, "")  # an unknown version is a 404 here too
        return _json(_model(endpoint, name, started))

    async def health(_: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(_: Request) -> Response:
        report = readiness_report(service)
        return _json(report, 200 if report["ready"] else 503)

    async def not_here(_: Request) -> Response:
        raise HTTPException(405, headers={"Allow": "POST"})

    routes = [
        Route("/v1/models", list_models),
        Route("/v1/models/{model:path}", retrieve_model),
        Route("/health", health),
        Route("/ready", ready),
        # The front answers POST on these before it comes here; of other methods Starlette says what is allowed.
        *[Route(dialect.path.decode(), not_here, methods=["POST"]) for dialect in DIALECTS],
    ]
    return Starlette(
        routes=routes,
        exception_handlers={PenstockError: _penstock_error, HTTPException: _http_error, Exception: _defect},
    )


class RequestIds:
    """ASGI wrapper: `x-request-id` on every answer, the caller's own where it sent one."""

    def __init__(self, app: ASGIApp, next_id: Callable[[], str]) -> None:
        self._app = app
        self._next_id = next_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"x-request-id"), None)
        request_id = make_request_id(self._next_id, asked).encode()

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
            await send(message)

        await self._app(scope, receive, with_id)


def readiness_report(service: Service) -> dict[str, object]:
    """Each version's state. Ready means: every version that the splits give traffic to can be served."""
    versions: dict[str, object] = {}
    endpoints = service.snapshot.endpoints.values()
    for endpoint in endpoints:
        for version in endpoint.versions.values():
            state = service.engine.readiness(version)
            versions[version.label] = {
                "ready": state.ready,
                "reason": state.reason,
                "contract": state.contract,
            }
    return {"ready": all(map(service.ready, endpoints)), "versions": versions}


def _model(endpoint: Endpoint, model: str, started: int) -> dict[str, object]:
    total = sum(endpoint.split.values())
    shares = {name: endpoint.split.get(name, 0) / total for name in endpoint.versions}
    return {"id": model, "object": "model", "created": started, "owned_by": "penstock", "versions": shares}


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _error(error: PenstockError, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error_body(error), error.status, headers, media_type="application/json")


async def _penstock_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PenstockError)
    return _error(error, {"www-authenticate": "Bearer"} if error.status == 401 else None)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        return _error(NotFound(f"There is no route {path}."))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return _error(MethodNotAllowed(f"{request.method} is not allowed on {path}; use {allowed}."), error.headers)
    return _error(BadRequest(error.detail))


async def _defect(_: Request, __: Exception) -> Response:
    # Starlette raises the exception again after this, so the server's log has the traceback.
    return _error(Internal("Internal error of the gateway; its log has the details under this request id."))
