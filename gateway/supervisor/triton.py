"""The embedded Triton: starts it, watches it, starts it again, ends it, and leaves nothing behind.

It listens on loopback only, on free ports, and keeps its gRPC port across restarts. Its log is
`<state>/triton.log` (the one before, `triton.log.1`); everything else of it lies in `<state>/triton/`.

    async with EmbeddedTriton(environment=environment, repository=repository, state=state) as triton:
        channel = grpc.aio.insecure_channel(triton.address)

One state folder, one Triton: a lock in it is held until the last process of the old one is gone. Leftovers
in /dev/shm of a Triton of this state folder that was killed together with its guard are removed at start.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from gateway.supervisor.triton_environment import EnvironmentMissing, TritonEnvironment, TritonError
from gateway.supervisor.triton_guard import STUB_DIED, remove_shared_memory
from gateway.supervisor.triton_log import LogTail, progress
from gateway.supervisor.triton_ports import LOOPBACK, ReservedPort, free_port
from gateway.supervisor.triton_ready import wait_until_ready
from gateway.supervisor.triton_repository import Models, collect_models
from gateway.supervisor.triton_run import TritonRun

__all__ = ["EmbeddedTriton", "EnvironmentMissing", "StartFailed", "TritonError"]

State = Literal["stopped", "starting", "ready", "restarting"]

_LOOK_S = 0.05
_LOCK_LIMIT_S = 10.0
_FIRST_PAUSE_S = 0.25
_MAX_PAUSE_S = 15.0
_STABLE_S = 60.0
_PORT_TAKEN = ("Address already in use", "failed to bind", "Failed to add port")
_PORT_TRIES = 3
_serial = itertools.count(1)


class StartFailed(TritonError):
    """Triton did not become ready; the message has the lines of its log that say why, and the log's path."""


class EmbeddedTriton:
    """A Triton server of our own. Use `start` and `stop`, or `async with`.

    Attributes:
        state: stopped, starting, ready, or restarting after it died.
        restarts: how often it was started again.
        log: its log file.
        shm_family: what the names of all shared memory of this state folder begin with.
    """

    def __init__(
        self,
        *,
        environment: Path,
        repository: Path,
        state: Path,
        models: Sequence[str] | None = None,
        extra_models: Mapping[str, Path] | None = None,
        variables: Mapping[str, str] | None = None,
        metrics: bool = True,
        otlp: str = "",
        ready_limit_s: float = 60.0,
        grace_s: float = 5.0,
        on_progress: Callable[[str], None] = lambda _: None,
        on_event: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        Args:
            environment: the virtual environment with nvidia-pytriton in it.
            repository: a Triton model repository.
            state: a folder for the log and for what is generated; made if missing.
            models: those of the repository to load; all by default.
            extra_models: further ones: name -> a .gguf file or an OpenVINO folder.
            variables: further environment variables for the models.
            metrics: serve Prometheus metrics, see `metrics_address`.
            otlp: base URL of an OTLP/HTTP receiver that Triton exports spans of its own to, "" for none.
            ready_limit_s: how long a start may take, in seconds.
            grace_s: how long requests in flight may go on when stopping, in seconds.
            on_progress: hears what a start is waiting for, in words.
            on_event: hears of deaths and restarts, in words.
        """
        self.state: State = "stopped"
        self.restarts = 0
        self.log = state.absolute() / "triton.log"
        self._environment = environment
        self._repository = repository.absolute()
        self._folder = state.absolute() / "triton"
        self._only = models
        self._extra = dict(extra_models or {})
        self._variables = dict(variables or {})
        self._ready_limit_s = ready_limit_s
        self._grace_s = grace_s
        self._on_progress = on_progress
        self._on_event = on_event
        self._wants_metrics = metrics
        self._otlp = otlp
        self._metrics_port = 0
        self._port: ReservedPort | None = None
        self._lock_fd = -1
        self.shm_family = "penstock_" + hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:10]
        self._run: TritonRun | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self._found: TritonEnvironment
        self._models: Models
        self._backends: Path

    def __repr__(self) -> str:
        where = self.address if self._port else "no port"
        return f"EmbeddedTriton({self.state}, {where}, {self.restarts} restarts)"

    @property
    def address(self) -> str:
        """Where it serves gRPC, host:port; the same across restarts."""
        if self._port is None:
            raise TritonError("the embedded Triton has not been started")
        return f"{LOOPBACK}:{self._port.number}"

    def reserve(self) -> str:
        """Choose the address before the start, for those who are to connect as soon as it serves."""
        if self._port is None:
            self._port = ReservedPort()
        return self.address

    @property
    def metrics_address(self) -> str | None:
        """Where it serves Prometheus metrics, host:port, until its next restart; None without."""
        return f"{LOOPBACK}:{self._metrics_port}" if self._metrics_port else None

    @property
    def pid(self) -> int | None:
        """Process id of tritonserver, None while there is none."""
        return self._run.server_pid if self._run is not None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and return when every model is ready; from then on it is kept alive.

        Errors: EnvironmentMissing, RepositoryError, StartFailed, TritonError.
        """
        self.state = "starting"
        try:
            self._found = TritonEnvironment.find(self._environment)
            await self._lock()
            remove_shared_memory(f"{self.shm_family}_")
            self._backends = self._found.link_backends(self._folder / "backends")
            self._models = collect_models(self._repository, self._extra, self._folder / "models", self._only)
            if self.log.exists():
                self.log.replace(self.log.with_name("triton.log.1"))
            self.reserve()
            await self._start_once()
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End it: requests in flight have the grace period. Nothing of it is left afterwards."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._end_run()
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        self.state = "stopped"

    async def wait_ready(self) -> None:
        """Return when it is ready: at once, or after a restart."""
        await self._is_ready.wait()

    async def _keep(self) -> None:
        """Start it again whenever it dies, with growing pauses while it dies young."""
        pause = 0.0
        ready_at = time.monotonic()
        while True:
            if self._run is not None:
                status = await asyncio.shield(self._run.ended)
                lived = time.monotonic() - ready_at
                pause = 0.0 if lived > _STABLE_S else pause
                self._is_ready.clear()
                self.state = "restarting"
                self._run = None
                self._on_event(f"Triton ended ({_in_words(status)}); its log is {self.log}")
            pause = min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, pause * 2))
            await asyncio.sleep(pause)
            self.restarts += 1
            try:
                await self._start_once()
            except TritonError as error:
                self._on_event(f"Triton could not be started again: {error}")
            else:
                self._on_event("Triton is ready again")
            ready_at = time.monotonic()

    async def _start_once(self) -> None:
        """One start; once more with another metrics port if somebody was quicker. The gRPC port is reserved."""
        for attempt in range(1, _PORT_TRIES + 1):
            try:
                await self._launch()
                return
            except StartFailed as error:
                if attempt == _PORT_TRIES or not any(sign in str(error) for sign in _PORT_TAKEN):
                    raise
                self._on_event("a port was taken, Triton is started again")

    async def _launch(self) -> None:
        assert self._port is not None
        self._metrics_port = free_port() if self._wants_metrics else 0
        prefix = f"{self.shm_family}_{os.getpid()}_{next(_serial)}"
        start = self.log.stat().st_size if self.log.exists() else 0
        env = {**self._found.variables(os.environ), **self._variables}
        self._on_progress("Triton is starting")
        try:
            self._run = await TritonRun.start(
                self._command(prefix), env, prefix, self.log, self._lock_fd, self._grace_s
            )
            await self._until_ready(self._run, LogTail(self.log, start))
        except BaseException:
            await self._end_run()
            raise
        self.state = "ready"
        self._is_ready.set()

    async def _until_ready(self, run: TritonRun, tail: LogTail) -> None:
        assert self._port is not None
        deadline = time.monotonic() + self._ready_limit_s
        ready = asyncio.create_task(wait_until_ready(LOOPBACK, self._port.number, self._models.names))
        try:
            while not ready.done():
                await asyncio.wait({ready, run.ended}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                for line in tail.new_lines():
                    if words := progress(line):
                        self._on_progress(words)
                if run.ended.done():
                    raise self._failure(f"Triton ended at its start ({_in_words(run.ended.result())})", tail)
                if not ready.done() and time.monotonic() > deadline:
                    raise self._failure(f"Triton was not ready after {self._ready_limit_s:g} s", tail)
            ready.result()
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    def _failure(self, what: str, tail: LogTail) -> StartFailed:
        lines = "".join(f"\n    {line}" for line in tail.useful_lines())
        return StartFailed(f"{what}. Its log, {self.log}, says:{lines or ' nothing'}")

    async def _end_run(self) -> None:
        run, self._run = self._run, None
        self._is_ready.clear()
        if run is None:
            return
        try:
            await run.stop()
        except BaseException:
            run.abandon()  # interrupted: the guard does without us
            raise

    async def _lock(self) -> None:
        """Own the state folder, once the guard of a Triton that was here before has cleaned up."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    owner = os.pread(self._lock_fd, 32, 0).decode("ascii", "replace").strip()
                    raise TritonError(
                        f"another Triton uses {self._folder} (started by process {owner or 'unknown'});"
                        " give this one another state folder"
                    ) from None
            await asyncio.sleep(_LOOK_S)
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)

    def _command(self, shm_prefix: str) -> list[str]:
        assert self._port is not None
        options: dict[str, object] = {
            "backend-directory": self._backends,
            "backend-config": [
                f"python,shm-region-prefix-name={shm_prefix}",
                "python,stub-timeout-seconds=300",
            ],
            "model-repository": list(self._models.repositories),
            "model-control-mode": "explicit",
            "load-model": list(self._models.names),
            "model-load-thread-count": 8,
            "disable-auto-complete-config": None,  # it would start every stub twice
            "allow-http": "false",
            "allow-grpc": "true",
            "grpc-address": LOOPBACK,
            "grpc-port": self._port.number,
            "reuse-grpc-port": "true",
            "grpc-infer-allocation-pool-size": 64,
            "allow-metrics": str(self._wants_metrics).lower(),
            "allow-gpu-metrics": "false",
            "allow-cpu-metrics": "false",
            "pinned-memory-pool-byte-size": 0,
            "exit-timeout-secs": max(1, int(self._grace_s)),
        }
        if self._wants_metrics:
            options |= {"metrics-address": LOOPBACK, "metrics-port": self._metrics_port}
        if self._otlp:
            options["trace-config"] = trace_settings(self._otlp)
        command = [str(self._found.server)]
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            command += [f"--{name}" if one is None else f"--{name}={one}" for one in values]
        return command


def trace_settings(otlp: str) -> list[str]:
    """Values of --trace-config: spans of the requests that bring a traceparent, which with rate 0 are all of those and
    no others, to the OTLP/HTTP receiver at the base URL `otlp`."""
    return [
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        "rate=0",
        f"opentelemetry,url={otlp}/v1/traces",
        "opentelemetry,resource=service.name=triton",
    ]


def _in_words(status: int) -> str:
    """The guard's exit status; 128 + n is signal n."""
    if status == STUB_DIED:
        return "the process of one of its models died"
    return f"signal {status - 128}" if status > 128 else f"status {status}"
