"""The control process: `python -m gateway.control.process`, for the supervisor only.

It owns the live state, the link and admin sockets in the state folder, and the metrics port. No request waits for
it: when it is gone, the workers serve what they have, and the supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import setproctitle
import uvicorn

from gateway.config import Config, ConfigError, Overrides, load
from gateway.control.admin import AdminProtocol, make_admin_app
from gateway.control.desk import Decided, Desk
from gateway.control.hub import Hub
from gateway.control.store import Store
from gateway.core.errors import PenstockError
from gateway.journal.segments import journal_folder, sweep
from gateway.metrics_app import Totals, make_metrics_app
from gateway.orders import ADMIN_SOCKET, LINK_SOCKET, REPORT_EVERY_S, ControlOrders, ControlReport, decode, encode
from gateway.parent import die_with
from gateway.reporter import Reporter
from gateway.routing.version import Endpoint
from gateway.telemetry.exporter import span_export
from gateway.unix_sockets import listen_unix

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger("penstock.control")

DAY_S = 86_400.0
SWEEP_EVERY_S = 60.0


class Control:
    """The parts, joined."""

    def __init__(self, orders: ControlOrders) -> None:
        self._orders = orders
        self._state = orders.config.server.state
        self._ending = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._reporter = Reporter(orders.report_fd)
        totals = Totals()
        self.hub = Hub(totals)
        self.desk = Desk(
            orders.config, Store(self._state), self.hub, workers=orders.workers, publish=self._tell_supervisor
        )
        self._metrics = make_metrics_app(totals)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        async with contextlib.AsyncExitStack() as stack:
            await self._reporter.start()
            stack.callback(self._reporter.close)
            said = await self.desk.open()
            if said:
                self._say(said)
            await self.hub.start(listen_unix(self._state / LINK_SOCKET))
            stack.push_async_callback(self.hub.close)
            admin = make_admin_app(self.desk, self._load)
            await serve_app(stack, admin, listen_unix(self._state / ADMIN_SOCKET), http=AdminProtocol)
            await serve_app(stack, self._metrics, socket.socket(fileno=self._orders.metrics_fd))
            spans = span_export(self._orders.config.traces, self._state, self._shows_content)
            if spans is not None:
                spans.start()
                stack.push_async_callback(asyncio.to_thread, spans.stop)
            for loop_of_ours in (self._live, self._sweep):
                stack.callback(asyncio.create_task(loop_of_ours()).cancel)
            await self._ending.wait()

    def _shows_content(self, endpoint: str) -> bool:
        known = self.desk.config.endpoints.get(endpoint)
        return known is not None and known.content_in_traces

    async def _live(self) -> None:
        while True:
            if not self._reporter.send(encode(ControlReport())):
                self._ending.set()  # the supervisor is gone
                return
            await asyncio.sleep(REPORT_EVERY_S)

    async def _sweep(self) -> None:
        # What the journal has kept long enough goes.
        keep = self._orders.config.journal
        folder = journal_folder(self._state)
        while True:
            try:
                await asyncio.to_thread(sweep, folder, keep.keep_days * DAY_S, keep.keep_bytes, time.time())
            except OSError as error:
                log.warning("old segments of the journal can't be removed: %s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    def _load(self) -> Config:
        source = self._orders.source
        return load(Path(source) if source is not None else None, overrides=Overrides(**self._orders.overrides))

    def _reload_soon(self) -> None:
        task = asyncio.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            self._say(_reload_words(await self.desk.reload("SIGHUP", self._load)))
        except (ConfigError, PenstockError) as error:
            self._say(f"the config was not loaded again, and nothing has changed. {error}")

    def _tell_supervisor(self, file: Mapping[str, Endpoint], endpoints: Mapping[str, Endpoint]) -> None:
        self._reporter.send_all(encode(ControlReport(dict(file), dict(endpoints))))

    def _say(self, what: str) -> None:
        self._reporter.send_all(encode(ControlReport(say=what)))


def _reload_words(decided: Decided) -> str:
    words = [f"the config was loaded again; generation {decided.generation}" if decided.changed else "nothing new"]
    words += decided.dropped
    if decided.restart:
        words.append(f"these need a restart: {', '.join(decided.restart)}")
    return "; ".join(words)


class _Server(uvicorn.Server):
    # Signals are the control process's own business.
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_app(
    stack: contextlib.AsyncExitStack,
    app: ASGIApp,
    listener: socket.socket,
    http: type[asyncio.Protocol] | None = None,
) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            http=http or "httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(server.serve([listener]))

    async def end() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(end)


def main() -> None:
    """Entry for the supervisor: orders come on standard input."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the loop takes it; its default would end us
    orders = decode(sys.stdin.buffer.read(), ControlOrders)
    die_with(orders.parent)
    setproctitle.setproctitle("penstock: control")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.set_blocking(orders.report_fd, False)

    async def serve() -> None:
        await Control(orders).run()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
