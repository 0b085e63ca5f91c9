"""A whole worker less its processes: the front, the app and the service over a scripted engine, in this process.

It listens on a free port of 127.0.0.1 and runs on a thread with a loop of its own, so that tests may use
blocking sockets and clients. What touches the loop goes through `on_loop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import msgspec
import uvicorn
import uvloop

from gateway.config import LimitsConfig
from gateway.engines.scripted import Answer, ScriptedCall, ScriptedEngine
from gateway.http_app import RequestIds, make_app
from gateway.http_front import HttpFront
from gateway.ids import id_maker
from gateway.journal.record import Record
from gateway.routing.version import Endpoint, Version
from gateway.service import Service
from gateway.snapshot import take_snapshot
from gateway.stats import Stats

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
STARTED = 1_700_000_000
WAIT_S = 20.0


def endpoint(name: str, *versions: str, split: dict[str, float] | None = None, **fields: Any) -> Endpoint:
    """An endpoint whose prompts are the messages' contents. `fields` are its versions'."""
    fields = {"chat_template": TEMPLATE, **fields}
    made = {version: Version(name, version, "m", **fields) for version in versions or ("v1",)}
    return Endpoint(name, made, split or dict.fromkeys(made, 1.0))


class Gateway:
    """A gateway in this process. `engine.calls` has the jobs; `url` is its root."""

    def __init__(self, answer: Answer = ("Hello", " world"), *endpoints: Endpoint, **limits: Any) -> None:
        concurrent_requests = limits.pop("concurrent_requests", 4096)
        keyring = limits.pop("keyring", None)
        self.limits = msgspec.structs.replace(LimitsConfig(), **limits)
        self.engine = ScriptedEngine(answer)
        self.stats = Stats()
        self.records: list[Record] = []
        self.loop = uvloop.new_event_loop()
        known = endpoints or (endpoint("assistant", "v1", "v2", split={"v1": 1.0, "v2": 0.0}), endpoint("org/big"))
        self.service = Service(
            take_snapshot({one.name: one for one in known}),
            self.engine,
            loop=self.loop,
            next_id=id_maker(),
            concurrent_requests=concurrent_requests,
            request_timeout=self.limits.request_timeout_s,
            stats=self.stats,
            journal=self.records.append,
            hash_key=str,
            keyring=keyring,
        )
        self.front = HttpFront(self.service, self.limits)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = _Server(
            uvicorn.Config(
                RequestIds(make_app(self.service, STARTED), self.service.next_id),
                http=self.front.protocol,  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                loop="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self.loop_errors: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, name=f"gateway-{self.port}")

    def __enter__(self) -> Gateway:
        self._thread.start()
        self.until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.on_loop(self._end)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the gateway did not end"

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda _, context: self.loop_errors.append(context))
        try:
            self.loop.run_until_complete(self._server.serve([self._listener]))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _end(self) -> None:
        for connection in list(self.front.connections):
            connection.transport.abort()
        self._server.should_exit = True

    # From the test's thread

    def on_loop(self, what: Callable[[], Any]) -> Any:
        """The result of `what`, called (and awaited) on the gateway's loop."""

        async def call() -> Any:
            result = what()
            return await result if isinstance(result, Awaitable) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(WAIT_S)

    def until(self, true: Callable[[], Any]) -> Any:
        """Waits until `true` is, looking between turns of the loop; what it was then. Fails after a long while."""

        async def look() -> Any:
            async with asyncio.timeout(WAIT_S):
                while not (value := true()):
                    await asyncio.sleep(0.001)
                return value

        return asyncio.run_coroutine_threadsafe(look(), self.loop).result(WAIT_S + 5)

    def call(self, at: int = -1) -> ScriptedCall:
        """A job of the engine, once it is there."""
        return self.until(lambda: len(self.engine.calls) >= (at + 1 if at >= 0 else -at) and self.engine.calls[at])

    def held(self, at: int = -1) -> ScriptedCall:
        """A job of the engine, once it stands at a HOLD."""
        call = self.call(at)
        self.until(lambda: call.held)
        return call

    def release(self, call: ScriptedCall) -> None:
        self.on_loop(call.release)

    def sweep(self, seconds: float) -> None:
        """The front's sweep, as if `seconds` had passed."""
        self.on_loop(lambda: self.front.sweep(self.loop.time() + seconds))

    def idle(self) -> None:
        """Waits until no request is under way."""
        self.until(lambda: self.stats.in_flight == 0)

    def connect(self) -> Wire:
        return Wire(self.port)

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, timeout=WAIT_S, trust_env=False, verify=False) as client:
            yield client


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it is to end; here many gateways live for a moment.
        while not self.should_exit:
            await asyncio.sleep(0.005)


class Answered(msgspec.Struct):
    """One HTTP answer as it was on the wire. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape, all of whose keys are there."""
        found: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found


class Wire:
    """A client connection of bare bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Bytes up to and with `mark`. Errors: EOFError when the connection ends before it."""
        while mark not in self._data:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError(self._data)
            self._data += piece
        at = self._data.index(mark) + len(mark)
        data, self._data = self._data[:at], self._data[at:]
        return data

    def read_exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError(self._data)
            self._data += piece
        data, self._data = self._data[:size], self._data[size:]
        return data

    def read_head(self) -> tuple[int, dict[str, str]]:
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, *_ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        assert all(name == name.lower() for name in headers)
        return int(status), headers

    def read_chunk(self) -> bytes:
        """One chunk of a chunked body; b"" at its end."""
        size = int(self.read_until(b"\r\n"), 16)
        return self.read_exactly(size + 2)[:-2]

    def read_answer(self, *, head_only: bool = False) -> Answered:
        """A whole answer, however its end is told."""
        status, headers = self.read_head()
        if head_only or status == 100:
            return Answered(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            return Answered(status, headers, b"".join(iter(self.read_chunk, b"")))
        if "content-length" in headers:
            return Answered(status, headers, self.read_exactly(int(headers["content-length"])))
        assert headers.get("connection") == "close"
        return Answered(status, headers, self.read_rest())

    def read_rest(self) -> bytes:
        """All until the other side closes."""
        pieces = [self._data, *iter(lambda: self.socket.recv(65536), b"")]
        self._data = b""
        return b"".join(pieces)

    def at_end(self) -> bool:
        """True once the other side has closed and nothing was left; b"" and a reset are both an end."""
        try:
            return self.read_rest() == b""
        except ConnectionResetError:
            return True
