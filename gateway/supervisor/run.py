"""The supervisor: starts the embedded Triton, the control process and the workers, keeps them alive, ends them.

It serves no request itself. What it owns: the state folder (one gateway each), the listening sockets, and the
order of starting and ending: workers drain before Triton goes. It also holds the last endpoints that the control
process told, so that a process that is started again begins with those and not with old ones.
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

import msgspec
import orjson
import setproctitle
from msgspec.structs import asdict, replace

from gateway.config import Config, Overrides, embedded_repository
from gateway.control.store import Store
from gateway.orders import DRAIN_S, ControlOrders, ControlReport, Orders, decode, encode
from gateway.routing.live import apply, reconcile
from gateway.routing.version import Endpoint
from gateway.secret import load_secret
from gateway.supervisor.kept import KeptProcess
from gateway.supervisor.ports import PortTaken, listen, reserve
from gateway.supervisor.talk import Talk
from gateway.supervisor.triton import EmbeddedTriton, TritonError

# More than the workers' own drain, so that they end by themselves.
WORKER_GRACE_S = DRAIN_S + 5.0
CONTROL_GRACE_S = 5.0


class CannotServe(Exception):
    """The gateway can't start; the message says why and what would do."""


class Supervisor:
    """One gateway, from start to end."""

    def __init__(self, config: Config, talk: Talk, *, source: Path | None = None, overrides: Overrides) -> None:
        """`source` is the file that `config` was read from, None for the built-in one; both are for a reload."""
        self._config = config
        self._source = source
        self._overrides = overrides
        self._endpoints = config.endpoints  # as they serve
        self._talk = talk
        self._began = time.monotonic()
        self._started = int(time.time())
        self._secret = ""
        self._stop = asyncio.Event()
        self._control: KeptProcess | None = None
        self._reload_wanted = False
        self._readiness: dict[int, dict[str, Any]] = {}
        self._reported = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Errors: CannotServe."""
        setproctitle.setproctitle("penstock: supervisor")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
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
        count = _workers(config)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._talk.quiet)
            stack.enter_context(_own(config.server.state))
            self._secret = _secret(config.server.state)
            try:
                http = listen(config.server.http, count, "--http")
                grpc = reserve(config.server.grpc, "--grpc")
                metrics = listen(config.server.metrics, 1, "--metrics")
            except PortTaken as error:
                raise CannotServe(str(error)) from error
            for bound in (*http, grpc, *metrics):
                stack.callback(bound.close)
            self._endpoints = _as_decided(config)
            engine, log = config.engine.url, ""
            triton = None if engine else self._embedded()
            if triton is not None:
                engine, log = triton.reserve(), str(triton.log)
                stack.push_async_callback(triton.stop)
            # All start side by side. At the end the workers go first: they drain, and the control process still counts.
            await self._start_control(stack, metrics[0])
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
                    "callers": _callers(config),
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
            otlp=self._config.traces.otlp if self._config.traces.engine else "",
            ready_limit_s=engine.start_timeout_s,
            on_progress=self._talk.progress,
            on_event=self._talk.say,
        )

    async def _start_control(self, stack: contextlib.AsyncExitStack, metrics: socket.socket) -> None:
        def orders(report_fd: int) -> bytes:
            return encode(
                ControlOrders(
                    config=self._config,
                    source=str(self._source) if self._source is not None else None,
                    overrides={name: _plain(value) for name, value in asdict(self._overrides).items()},
                    workers=_workers(self._config),
                    metrics_fd=metrics.fileno(),
                    report_fd=report_fd,
                    parent=os.getpid(),
                )
            )

        self._control = KeptProcess(
            "the control process",
            ("-m", "gateway.control.process"),
            orders,
            (metrics.fileno(),),
            on_report=self._on_control,
            on_end=lambda: None,
            on_news=self._talk.say,
        )
        stack.push_async_callback(self._control.stop, CONTROL_GRACE_S)
        await self._control.start()

    async def _start_workers(
        self, stack: contextlib.AsyncExitStack, engine: str, listeners: list[socket.socket], grpc: str
    ) -> None:
        def worker(index: int, listener: socket.socket) -> KeptProcess:
            def orders(report_fd: int) -> bytes:
                return encode(
                    Orders(
                        index=index,
                        config=replace(self._config, endpoints=self._endpoints),
                        engine=engine,
                        grpc=grpc,
                        secret=self._secret,
                        started=self._started,
                        http_fd=listener.fileno(),
                        report_fd=report_fd,
                        parent=os.getpid(),
                    )
                )

            return KeptProcess(
                f"worker {index}",
                ("-m", "gateway.app"),
                orders,
                (listener.fileno(),),
                on_report=lambda line: self._on_report(index, line),
                on_end=lambda: self._on_end(index),
                on_news=self._talk.say,
            )

        workers = [worker(index, listener) for index, listener in enumerate(listeners, 1)]

        async def end() -> None:
            for listener in listeners:
                listener.close()  # the port is free when the workers have closed theirs: nobody queues for nothing
            await asyncio.gather(*[one.stop(WORKER_GRACE_S) for one in workers])

        stack.push_async_callback(end)
        for one in workers:
            await one.start()

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

    def _on_report(self, worker: int, line: bytes) -> None:
        self._readiness[worker] = orjson.loads(line)["readiness"]
        self._reported.set()

    def _on_end(self, worker: int) -> None:
        self._readiness.pop(worker, None)

    def _on_control(self, line: bytes) -> None:
        report = decode(line, ControlReport)
        if report.file is not None:
            self._config = replace(self._config, endpoints=report.file)
        if report.endpoints is not None:
            self._endpoints = report.endpoints
        if report.say:
            self._talk.say(report.say)
        if self._reload_wanted:
            self._reload()

    def _reload(self) -> None:
        # Before its first report it may not be ready for a signal.
        control = self._control
        self._reload_wanted = control is None or not control.heard or not control.send(signal.SIGHUP)


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


def _callers(config: Config) -> str:
    if config.keys:
        return "one key" if len(config.keys) == 1 else f"{len(config.keys)} keys"
    return "anyone on this machine, for there are no [[keys]]; without them only loopback is served"


def _secret(state: Path) -> str:
    """In hex, as orders carry it. Errors: CannotServe."""
    try:
        return load_secret(state).hex()
    except (OSError, ValueError) as error:
        raise CannotServe(f"can't use the secret of the state folder: {error}") from error


def _workers(config: Config) -> int:
    return config.server.workers or os.cpu_count() or 1


def _as_decided(config: Config) -> dict[str, Endpoint]:
    """The endpoints with what was decided live before; the control process keeps house, this only looks.

    Errors: CannotServe.
    """
    try:
        live, _ = reconcile(config.endpoints, Store(config.server.state).read())
    except msgspec.DecodeError:
        return config.endpoints  # the control process sets the damaged file aside, and says so
    except OSError as error:
        why = error.strerror or str(error)
        raise CannotServe(f"can't read the live state in {config.server.state}: {why}") from error
    return apply(config.endpoints, live)


def _plain(value: Path | str | int | None) -> str | int | None:
    return str(value) if isinstance(value, Path) else value


def _triton_environment(configured: str) -> Path:
    # Beside the gateway's own environment by default: .venv and .venv-triton.
    return Path(configured or os.environ.get("PENSTOCK_TRITON_ENV") or f"{sys.prefix}-triton")


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
