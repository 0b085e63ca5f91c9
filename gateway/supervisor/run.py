"""The supervisor: starts the embedded Triton and the workers, keeps them alive, ends them.

It serves no request itself. What it owns: the state folder (one gateway each), the listening sockets,
the metrics port, and the order of starting and ending: workers drain before Triton goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import setproctitle
import uvicorn

from gateway.config import Config, embedded_repository
from gateway.metrics_app import Totals, make_metrics_app
from gateway.orders import DRAIN_S, Orders
from gateway.supervisor.ports import PortTaken, listen, reserve
from gateway.supervisor.talk import Talk
from gateway.supervisor.triton import EmbeddedTriton, TritonError
from gateway.supervisor.workers import WorkerProcess

# More than the workers' own drain, so that they end by themselves.
WORKER_GRACE_S = DRAIN_S + 5.0


class CannotServe(Exception):
    """The gateway can't start; the message says why and what would do."""


class Supervisor:
    """One gateway, from start to end."""

    def __init__(self, config: Config, talk: Talk) -> None:
        self._config = config
        self._talk = talk
        self._began = time.monotonic()
        self._started = int(time.time())
        self._stop = asyncio.Event()
        self._totals = Totals()
        self._readiness: dict[int, dict[str, Any]] = {}
        self._reported = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Errors: CannotServe."""
        setproctitle.setproctitle("penstock: supervisor")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            self._talk.quiet()
            self._talk.say(f"stopping; requests in flight have {DRAIN_S} s")
            serving.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def _serve(self) -> None:
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
            await self._start_metrics(stack, metrics[0])
            engine, log = config.engine.url, ""
            triton = None if engine else self._embedded()
            if triton is not None:
                engine, log = triton.reserve(), str(triton.log)
                stack.push_async_callback(triton.stop)
            # Workers and Triton start side by side; at the end the workers go first.
            await self._start_workers(stack, engine, http, _address(grpc))
            if triton is not None:
                try:
                    await triton.start()
                except TritonError as error:
                    raise CannotServe(str(error)) from error
            ready = await self._wait_ready(count)
            self._talk.card(
                {
                    "ready": ready,
                    "http": _address(http[0]),
                    "grpc": _address(grpc),
                    "metrics": _address(metrics[0]),
                    "endpoint": next(iter(config.endpoints)),
                    "engine": f"Triton at {engine}" + (f" (embedded; log {log})" if log else ""),
                    "workers": count,
                    "seconds": round(time.monotonic() - self._began, 2),
                }
            )
            await asyncio.Event().wait()  # until cancelled

    def _embedded(self) -> EmbeddedTriton:
        engine = self._config.engine
        return EmbeddedTriton(
            environment=_triton_environment(engine.environment),
            repository=embedded_repository(),
            state=self._config.server.state,
            extra_models={name: source.path for name, source in engine.models.items()},
            ready_limit_s=engine.start_timeout_s,
            on_progress=self._talk.progress,
            on_event=self._talk.say,
        )

    async def _start_metrics(self, stack: contextlib.AsyncExitStack, listener: socket.socket) -> None:
        server = _MetricsServer(
            uvicorn.Config(
                make_metrics_app(self._totals),
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

    async def _start_workers(
        self, stack: contextlib.AsyncExitStack, engine: str, listeners: list[socket.socket], grpc: str
    ) -> None:
        def orders(index: int, http_fd: int, report_fd: int) -> Orders:
            return Orders(
                index=index,
                config=self._config,
                engine=engine,
                grpc=grpc,
                started=self._started,
                http_fd=http_fd,
                report_fd=report_fd,
                parent=os.getpid(),
            )

        workers = [
            WorkerProcess(index, orders, listener, self._on_report, self._on_death)
            for index, listener in enumerate(listeners, 1)
        ]

        async def end() -> None:
            await asyncio.gather(*[worker.stop(WORKER_GRACE_S) for worker in workers])

        stack.push_async_callback(end)
        for worker in workers:
            await worker.start()

    async def _wait_ready(self, workers: int) -> bool:
        # A remote Triton may be away for long: the gateway serves /health and errors meanwhile, and says so.
        deadline = time.monotonic() + self._config.engine.start_timeout_s
        said = ""
        while len(self._readiness) < workers or not all(r["ready"] for r in self._readiness.values()):
            self._reported.clear()
            waiting = self._waiting_for(workers)
            if waiting != said:
                said = waiting
                self._talk.progress(f"waiting for {waiting}")
            try:
                await asyncio.wait_for(self._reported.wait(), max(0.01, deadline - time.monotonic()))
            except TimeoutError:
                self._talk.say(f"not ready yet, serving all the same; waiting for {waiting}")
                return False
        return True

    def _waiting_for(self, workers: int) -> str:
        if len(self._readiness) < workers:
            return "the workers"
        reasons = {
            f"{label}: {state['reason']}"
            for report in self._readiness.values()
            for label, state in report["versions"].items()
            if not state["ready"]
        }
        return "; ".join(sorted(reasons)) or "the engine"

    def _on_report(self, worker: int, report: dict[str, Any]) -> None:
        self._totals.update(worker, report["stats"])
        self._readiness[worker] = report["readiness"]
        self._reported.set()

    def _on_death(self, worker: int, code: int, pause: float) -> None:
        self._totals.retire(worker)
        self._readiness.pop(worker, None)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._talk.say(f"worker {worker} ended ({how}); it is started again in {pause:.1f} s")


class _MetricsServer(uvicorn.Server):
    # Signals are the supervisor's own business.
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _own(state: Path) -> Iterator[None]:
    """The state folder, for this gateway alone. Errors: CannotServe."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("a+")
    except OSError as error:
        why = error.strerror or str(error)
        raise CannotServe(f"can't use the state folder {state}: {why}; choose one with --state DIR") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotServe(
                f"another gateway uses the state folder {state}; choose another with --state DIR"
            ) from None
        yield


def _triton_environment(configured: str) -> Path:
    # Beside the gateway's own environment by default: .venv and .venv-triton.
    return Path(configured or os.environ.get("PENSTOCK_TRITON_ENV") or f"{sys.prefix}-triton")


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
