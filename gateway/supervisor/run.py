"""The supervisor: starts the embedded Triton and the workers, keeps them alive, ends them.

It serves no request itself. What it owns: the state folder (one gateway each), the listening sockets,
the metrics port, and the order of starting and ending: workers drain before Triton goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import setproctitle

from gateway.app import DRAIN_S
from gateway.config import Config
from gateway.metrics_app import Totals
from gateway.supervisor.ports import PortTaken, listen, reserve
from gateway.supervisor.talk import Talk
from gateway.supervisor.workers import WorkerProcess


class CannotServe(Exception):
    """The gateway can't start; the message says why and what would do."""


class Supervisor:
    """One gateway, from start to end."""

    def __init__(self, config: Config, talk: Talk) -> None:
        self._config = config
        self._talk = talk
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._totals = Totals()
        self._readiness: dict[int, dict[str, Any]] = {}
        self._all_ready = asyncio.Event()
        self._workers: list[WorkerProcess] = []

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Errors: CannotServe."""
        setproctitle.setproctitle("penstock: supervisor")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        config = self._config
        count = config.server.workers or os.cpu_count() or 1
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._talk.quiet)
            stack.enter_context(_own(config.server.state))
            try:
                http = listen(config.server.http, count, "--http")
                grpc = reserve(config.server.grpc, "--grpc")
                metrics = listen(config.server.metrics, 1, "--metrics")
            except PortTaken as error:
                raise CannotServe(str(error)) from error
            for bound in (*http, grpc, *metrics):
                stack.callback(bound.close)
            engine = await self._start_engine(stack)
            server = await self._start_metrics(stack, metrics[0])
            await self._start_workers(stack, engine, http, grpc)
            await self._wait_ready(http[0], grpc, metrics[0], engine)
            await self._stop.wait()
            self._talk.quiet()
            self._talk.say(f"stopping; requests in flight have {DRAIN_S} s")
            server.should_exit = True
