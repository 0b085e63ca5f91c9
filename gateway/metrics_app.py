"""The metrics port."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.totals import Totals

__all__ = ["Totals", "make_metrics_app"]


def make_metrics_app(totals: Totals) -> Starlette:
    """GET /metrics."""

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(totals.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(routes=[Route("/metrics", metrics)])
