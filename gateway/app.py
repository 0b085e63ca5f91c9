"""A worker: the composition root. The only place that wires the parts together.

A worker is started by the supervisor with its orders on standard input (see `Orders`), a listening
socket and a pipe to report through. It serves until SIGTERM, or until the supervisor is gone. Then it drains:
it takes nothing new, what is in flight has DRAIN_S seconds, and what is open after that ends with an error that
says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import setproctitle
import uvicorn
import uvloop

from gateway.core.errors import EngineUnavailable
from gateway.engines.triton import TritonEngine
from gateway.grpc_app import GrpcFace
from gateway.http_app import RequestIds, make_app, readiness_report
from gateway.http_front import HttpFront
from gateway.ids import id_maker
from gateway.journal.segments import journal_folder
from gateway.journal.writer import JournalWriter
from gateway.keys import keyring_of
from gateway.link import Link
from gateway.loop_lag import LoopLag
from gateway.orders import DRAIN_S, LINK_SOCKET, REPORT_EVERY_S, Orders, decode
from gateway.parent import die_with
from gateway.readings import ProcessReading, client_reading, journal_reading, upstream_reading
from gateway.reporter import Reporter
from gateway.routing.version import Endpoint, Version
from gateway.secret import key_hasher
from gateway.service import Service
from gateway.snapshot import take_snapshot
from gateway.stats import Stats
from gateway.trace_context import Tracing

log = logging.getLogger("penstock.worker")

# Seconds that clients have to read their last words, after the drain.
LAST_WORDS_S = 2
# Seconds that new versions have to be looked at before traffic is sent to them all the same.
LOOK_S = 5.0


class Worker:
    """The parts of one worker, joined."""

    def __init__(self, orders: Orders, loop: asyncio.AbstractEventLoop) -> None:
        config = orders.config
        self.orders = orders
        self.loop = loop
        self.engine = TritonEngine(orders.engine, connections=config.engine.connections)
        journal = config.journal
        self.journal = JournalWriter(
            journal_folder(config.server.state),
            orders.index,
            loop=loop,
            segment_bytes=journal.segment_bytes,
            segment_age_s=journal.segment_age_s,
            memory_bytes=journal.memory_bytes,
            redact=journal.redact,
        )
        self.service = Service(
            take_snapshot(config.endpoints),
            self.engine,
            loop=loop,
            next_id=id_maker(),
            concurrent_requests=config.limits.concurrent_requests,
            request_timeout=config.limits.request_timeout_s,
            stats=Stats(),
            journal=self.journal.append,
            hash_key=key_hasher(bytes.fromhex(orders.secret)),
            worker=orders.index,
            keyring=keyring_of(config.keys),
            tracing=Tracing(exports=bool(config.traces.otlp), share=config.traces.share),
        )
        self.front = HttpFront(self.service, config.limits)
        self.server = _Server(
            uvicorn.Config(
                RequestIds(make_app(self.service, orders.started), self.service.next_id),
                http=self.front.protocol,  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                loop="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_S + LAST_WORDS_S,
            )
        )
        self.grpc = GrpcFace(orders.grpc, self.service, config.limits)
        self.link = Link(config.server.state / LINK_SOCKET, orders.index, self.take_over, self.figures)
        self.reporter = Reporter(orders.report_fd)
        self.loop_lag = LoopLag(loop)
        for reading in (
            journal_reading(lambda: self.journal.stats),
            upstream_reading(self.engine.upstreams),
            client_reading(lambda: len(self.front.connections)),
            self.loop_lag.rows,
            ProcessReading(),
        ):
            self.service.stats.add(reading)
        self._ending: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serve until told to stop, and drain."""
        await self.reporter.start()
        self.loop_lag.start()
        await self.engine.start([])
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop)
        self.loop.add_signal_handler(signal.SIGHUP, lambda: None)  # it is for the supervisor, and some send it to all
        # Connections may wait for us on a listener that an earlier worker left: we look at the models before we answer.
        await self._watch(_versions(self.orders.config.endpoints))
        await self.grpc.start()
        # What has been made up to here stays for good: a full collection, which stops all streams, need not walk it.
        gc.collect()
        gc.freeze()
        tasks = [asyncio.create_task(loop()) for loop in (self._report, self._sweep, self.link.run)]
        try:
            with socket.socket(fileno=self.orders.http_fd) as listener:
                await self.server.serve([listener])
        finally:
            self.stop()
            closing, *others = self._ending
            await closing
            for task in (*tasks, *others):
                task.cancel()
            await asyncio.gather(*tasks, *others, return_exceptions=True)
            self.loop_lag.stop()
            await self.engine.close()
            await asyncio.to_thread(self.journal.close)
            self.reporter.close()

    async def take_over(self, endpoints: dict[str, Endpoint]) -> None:
        """Serve these endpoints from now on; what is in flight ends as it began."""
        snapshot = take_snapshot(endpoints)
        await self._watch(_versions(endpoints))
        self.service.snapshot = snapshot

    async def _watch(self, versions: list[Version]) -> None:
        try:
            await asyncio.wait_for(self.engine.watch(versions), LOOK_S)
        except TimeoutError:
            log.warning("the engine did not tell about all new versions within %g s", LOOK_S)

    def figures(self) -> dict[str, Any]:
        """What the control process hears from us."""
        return {"stats": self.service.stats.to_dict(), "readiness": readiness_report(self.service)["versions"]}

    def stop(self) -> None:
        """Begin to drain; `run` returns at its end. Has an effect once."""
        self.server.should_exit = True
        if not self._ending:
            self._ending = [asyncio.create_task(self.grpc.close(DRAIN_S)), asyncio.create_task(self._end_overdue())]

    async def _end_overdue(self) -> None:
        await asyncio.sleep(DRAIN_S)
        while True:  # the end of one answer may begin the next on its connection
            for inference in list(self.service.open):
                inference.fail(
                    EngineUnavailable(
                        "The gateway is shutting down, and its time for open requests has passed; try again.",
                        code="shutting_down",
                        retry_after=1.0,
                    )
                )
            await asyncio.sleep(0.05)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.front.sweep(self.loop.time())

    async def _report(self) -> None:
        # One JSON line of readiness: a sign of life, which the supervisor waits for.
        while True:
            await self.grpc.update()
            if not self.reporter.send(orjson.dumps({"readiness": readiness_report(self.service)})):
                self.stop()
                return
            await asyncio.sleep(REPORT_EVERY_S)


class _Server(uvicorn.Server):
    # Signals are the worker's own business.
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _versions(endpoints: dict[str, Endpoint]) -> list[Version]:
    return [version for endpoint in endpoints.values() for version in endpoint.versions.values()]


def main() -> None:
    """Entry of `python -m gateway.app`, for the supervisor only."""
    orders = decode(sys.stdin.buffer.read(), Orders)
    die_with(orders.parent)
    setproctitle.setproctitle(f"penstock: worker {orders.index}")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.set_blocking(orders.report_fd, False)

    async def serve() -> None:
        await Worker(orders, asyncio.get_running_loop()).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
