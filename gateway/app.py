"""A worker: the composition root. The only place that wires the parts together.

A worker is started by the supervisor with its orders on standard input (see `Orders`), a listening
socket and a pipe to report through. It serves until SIGTERM, or until the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import orjson
import setproctitle
import uvicorn
import uvloop

from gateway.engines.triton import TritonEngine
from gateway.grpc_app import GrpcFace
from gateway.http_app import RequestIds, make_app, readiness_report
from gateway.http_front import HttpFront
from gateway.ids import id_maker
from gateway.orders import DRAIN_S, Orders, decode_orders
from gateway.serve import Service
from gateway.snapshot import take_snapshot
from gateway.stats import Stats

log = logging.getLogger("penstock.worker")

REPORT_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1


class Worker:
    """The parts of one worker, joined."""

    def __init__(self, orders: Orders, loop: asyncio.AbstractEventLoop) -> None:
        config = orders.config
        self.orders = orders
        self.loop = loop
        self.engine = TritonEngine(orders.engine, connections=config.engine.connections)
        self.service = Service(
            take_snapshot(config.endpoints),
            self.engine,
            loop=loop,
            next_id=id_maker(),
            concurrent_requests=config.limits.concurrent_requests,
            request_timeout=config.limits.request_timeout_s,
            stats=Stats(),
            journal=lambda record: None,
            hash_key=str,
            worker=orders.index,
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
                timeout_keep_alive=int(config.limits.idle_timeout_s),
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self.grpc = GrpcFace(orders.grpc, self.service)

    async def run(self) -> None:
        """Serve until told to stop."""
        versions = [v for e in self.orders.config.endpoints.values() for v in e.versions.values()]
        await self.engine.start(versions)
        await self.grpc.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._stop)
        report = asyncio.create_task(self._report())
        sweep = asyncio.create_task(self._sweep())
        try:
            with socket.socket(fileno=self.orders.http_fd) as listener:
                await self.server.serve([listener])
        finally:
            for task in (report, sweep):
                task.cancel()
            await asyncio.gather(report, sweep, return_exceptions=True)
            await self.grpc.close()
            await self.engine.close()

    def _stop(self) -> None:
        self.server.should_exit = True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.front.sweep(self.loop.time())

    async def _report(self) -> None:
        # One JSON line: readiness and counters. The supervisor waits for the first and sums the rest.
        while True:
            await self.grpc.update()
            line = orjson.dumps({"readiness": readiness_report(self.service), "stats": self.service.stats.to_dict()})
            try:
                os.write(self.orders.report_fd, line + b"\n")
            except BlockingIOError:
                pass  # the supervisor is busy: the next report says it all again
            except BrokenPipeError:
                self._stop()
                return
            await asyncio.sleep(REPORT_EVERY_S)


class _Server(uvicorn.Server):
    # Signals are the worker's own business.
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _die_with(parent: int) -> None:
    # SIGTERM when the supervisor is gone, whatever killed it.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor ended before its worker had started")


def main() -> None:
    """Entry of `python -m gateway.app`, for the supervisor only."""
    orders = decode_orders(sys.stdin.buffer.read())
    _die_with(orders.parent)
    setproctitle.setproctitle(f"penstock: worker {orders.index}")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.set_blocking(orders.report_fd, False)

    async def serve() -> None:
        await Worker(orders, asyncio.get_running_loop()).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
