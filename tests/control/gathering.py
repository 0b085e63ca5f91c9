"""A control process less its process: desk, hub and admin on real sockets, with links as workers have them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from gateway.config import Config, load
from gateway.control.admin import AdminProtocol, make_admin_app
from gateway.control.desk import Desk
from gateway.control.hub import Hub
from gateway.control.process import serve_app
from gateway.control.store import Store
from gateway.link import Link
from gateway.metrics_app import Totals
from gateway.orders import ADMIN_SOCKET, LINK_SOCKET
from gateway.routing.version import Endpoint
from gateway.stats import Stats
from gateway.unix_sockets import listen_unix

CONFIG = """
[engine]
url = "127.0.0.1:1"
[endpoints."org/chat"]
split = { v1 = 90, v2 = 10 }
[endpoints."org/chat".versions]
v1 = { model = "m" }
v2 = { model = "n" }
"""


class Worker:
    """A worker as the control process sees it. `gate` holds it back from taking over."""

    def __init__(self, state: Path, index: int) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.taken = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.link = Link(state / LINK_SOCKET, index, self._take, self._report)
        self.task = asyncio.create_task(self.link.run())

    async def _take(self, endpoints: dict[str, Endpoint]) -> None:
        await self.gate.wait()
        self.endpoints = endpoints
        self.taken.set()

    def _report(self) -> dict[str, Any]:
        versions = [v.label for e in self.endpoints.values() for v in e.versions.values()]
        return {"stats": Stats().to_dict(), "readiness": {label: {"ready": True, "reason": ""} for label in versions}}

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Gathering:
    """What `gathered` yields."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.file = folder / "penstock.toml"
        self.state = state
        self.totals = Totals()
        self.hub = Hub(self.totals)
        self.told: list[dict[str, Endpoint]] = []
        self.workers: list[Worker] = []
        self.desk = Desk(
            self.load(),
            Store(state),
            self.hub,
            workers=2,
            publish=lambda _, endpoints: self.told.append(dict(endpoints)),
        )

    def load(self) -> Config:
        return load(self.file)

    async def ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run a blocking client beside the loop. Its error is raised here."""
        return await asyncio.to_thread(call, *arguments)

    async def linked(self, count: int) -> None:
        """Wait until so many workers serve the newest endpoints."""
        async with asyncio.timeout(60):
            while sum(worker["applied"] for worker in self.hub.workers()) < count:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def gathered(folder: Path, *, workers: int = 2, state: Path | None = None) -> AsyncIterator[Gathering]:
    """A gathering whose config file is in `folder`, CONFIG unless there is one already."""
    file = folder / "penstock.toml"
    if not file.exists():
        file.write_text(CONFIG)
    state = state or folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    gathering = Gathering(folder, state)
    async with contextlib.AsyncExitStack() as stack:
        await gathering.desk.open()
        await gathering.hub.start(listen_unix(state / LINK_SOCKET))
        stack.push_async_callback(gathering.hub.close)
        admin = make_admin_app(gathering.desk, gathering.load)
        await serve_app(stack, admin, listen_unix(state / ADMIN_SOCKET), http=AdminProtocol)
        for index in range(1, workers + 1):
            worker = Worker(state, index)
            stack.push_async_callback(worker.end)
            gathering.workers.append(worker)
        await gathering.linked(workers)
        yield gathering
