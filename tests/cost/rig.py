"""The request path from bytes to bytes, in one thread: the real front, service, journal and engine between two fake
sockets and on a fake loop, so that nothing but our own work happens and it is the same work every time.

The upstream is a replica that answers as Triton does, byte for byte in the layouts that tritonclient's protobuf makes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, cast

import orjson
import uvicorn
from tritonclient.grpc import service_pb2 as pb
from uvicorn.server import ServerState

from gateway.config import KeyConfig, LimitsConfig
from gateway.engines import http2_frames as wire
from gateway.engines.base import Readiness
from gateway.engines.channel import Channel
from gateway.engines.contracts.registry import bind
from gateway.engines.http2 import Connection
from gateway.engines.http2_link import Link
from gateway.engines.triton import TritonEngine
from gateway.engines.triton_interface import ModelInterface, TensorSpec
from gateway.engines.triton_models import Served
from gateway.http_front import FrontProtocol, HttpFront
from gateway.journal.writer import JournalWriter
from gateway.keys import Keyring
from gateway.routing.version import Endpoint, Version
from gateway.service import Service
from gateway.snapshot import take_snapshot
from gateway.stats import Stats

API_KEY = "sk-cost"
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
QUESTION = "What is a canary? " * 16
TOKEN = " canary"


class Timer:
    """A timer that never fires: what it would end has ended long before."""

    def cancel(self) -> None:
        pass

    def cancelled(self) -> bool:
        return False


class Loop(asyncio.AbstractEventLoop):
    """Turns when it is told to. Its clock stands still."""

    def __init__(self) -> None:
        self.soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.timer = Timer()

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return 0.0

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        self.soon.append((callback, args))
        return self.timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        return self.timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def turn(self) -> None:
        """Everything that waits for the next turn, and what that leads to."""
        soon = self.soon
        while soon:
            callback, args = soon.popleft()
            callback(*args)


class Socket:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        raise AssertionError("the path closed a connection")

    abort = close


INTERFACE = ModelInterface(
    "m",
    "1",
    inputs={
        "text_input": TensorSpec("BYTES", (1,)),
        "max_tokens": TensorSpec("INT32", (1,)),
        **{name: TensorSpec("FP32", (1,), optional=True) for name in ("temperature", "top_p")},
        **{name: TensorSpec("BOOL", (1,), optional=True) for name in ("stream", "exclude_input_in_output")},
        **{
            name: TensorSpec("BOOL", (1,), optional=True)
            for name in ("return_num_input_tokens", "return_num_output_tokens")
        },
        "seed": TensorSpec("UINT64", (1,), optional=True),
        "stop_words": TensorSpec("BYTES", (-1,), optional=True),
    },
    outputs={
        "text_output": TensorSpec("BYTES", (1,)),
        "finish_reason": TensorSpec("BYTES", (1,)),
        "num_input_tokens": TensorSpec("INT32", (1,)),
        "num_output_tokens": TensorSpec("INT32", (1,)),
    },
    decoupled=True,
)


class Models:
    """In the place of the engine's table: everything is served by the one model."""

    def __init__(self, endpoint: Endpoint) -> None:
        ready = Readiness(True, "", "penstock", frozenset())
        self._served = {
            version.label: Served(version, bind(INTERFACE, version, {}), INTERFACE, {}, None, ready)
            for version in endpoint.versions.values()
        }

    def served(self, version: Version) -> Served | None:
        return self._served.get(version.label)

    def readiness(self, version: Version) -> Readiness:
        return self._served[version.label].readiness


class Replica:
    """The far side of the upstream connection. Each stream's first octets are read for its request's id alone."""

    def __init__(self, link: Link, socket: Socket) -> None:
        self._link = link
        self._socket = socket
        self._next = 1

    def request(self) -> tuple[int, str]:
        """Stream and request id of the call that was just opened."""
        data = self._socket.take()
        stream, self._next = self._next, self._next + 2
        at = 0
        message = b""
        while at < len(data):
            size = int.from_bytes(data[at : at + 3], "big")
            if data[at + 3] == wire.DATA and int.from_bytes(data[at + 5 : at + 9], "big") == stream:
                message += data[at + 9 : at + 9 + size]
            at += 9 + size
        self._link.data_received(wire.window_update(0, len(message)))
        return stream, pb.ModelInferRequest.FromString(message[5:]).id


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers_frame(stream: int) -> bytes:
    """:status 200 and the content type, without a dynamic table; the connection's first block says that it has none."""
    block = b"\x88\x00\x0ccontent-type\x10application/grpc"
    return frame(wire.HEADERS, wire.END_HEADERS, stream, b"\x20" * (stream == 1) + block)


def trailers_frame(stream: int) -> bytes:
    return frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream, b"\x00\x0bgrpc-status\x010")


def token_frame(stream: int, request_id: str, text: str, finish: str = "") -> bytes:
    """One response, as Triton sends it for a decoupled model."""
    response = pb.ModelInferResponse(model_name="m", model_version="1", id=request_id)
    response.parameters["triton_final_response"].bool_param = bool(finish)

    def add(name: str, dtype: str, raw: bytes) -> None:
        response.outputs.add(name=name, datatype=dtype, shape=[1])
        response.raw_output_contents.append(raw)

    add("text_output", "BYTES", len(text.encode()).to_bytes(4, "little") + text.encode())
    add("num_output_tokens", "INT32", (1).to_bytes(4, "little"))
    if finish:
        add("num_input_tokens", "INT32", (99).to_bytes(4, "little"))
        add("finish_reason", "BYTES", len(finish).to_bytes(4, "little") + finish.encode())
    message = pb.ModelStreamInferResponse(infer_response=response).SerializeToString()
    return frame(wire.DATA, 0, stream, b"\x00" + len(message).to_bytes(4, "big") + message)


class Rig:
    """One client connection, one upstream connection, and the path between them."""

    def __init__(self, folder: Path) -> None:
        self.loop = loop = Loop()
        self._before = asyncio._get_running_loop()
        asyncio._set_running_loop(loop)
        endpoint = Endpoint(
            "assistant",
            {name: Version("assistant", name, "m", chat_template=TEMPLATE) for name in ("v1", "v2")},
            {"v1": 1.0, "v2": 1.0},
        )
        engine = TritonEngine("127.0.0.1:1")
        engine._models = cast(Any, Models(endpoint))
        self.journal = JournalWriter(
            folder, 0, loop=loop, segment_bytes=1 << 30, segment_age_s=3600.0, memory_bytes=1 << 30
        )
        self.records = 0
        service = Service(
            take_snapshot({"assistant": endpoint}),
            engine,
            loop=loop,
            next_id=map("{:025x}".format, count(1)).__next__,
            clock=count(1_000_000, 1_000_000).__next__,  # what is measured must not depend on what it takes
            concurrent_requests=100,
            request_timeout=60.0,
            stats=Stats(),
            journal=self._keep,
            hash_key=str,
            keyring=Keyring([KeyConfig("cost", hashlib.sha256(API_KEY.encode()).hexdigest())]),
        )
        self.front = HttpFront(service, LimitsConfig())
        self.client = Socket()
        self.protocol: FrontProtocol = self.front.protocol(
            uvicorn.Config(_App(), loop="none", log_config=None, access_log=False),
            ServerState(),
            {},
            loop,
        )
        self.protocol.connection_made(cast(asyncio.Transport, self.client))
        self.link, upstream = self._upstream(engine._channel)
        self.replica = Replica(self.link, upstream)

    def _keep(self, record: Any) -> None:
        self.records += 1
        self.journal.append(record)

    def _upstream(self, channel: Channel) -> tuple[Link, Socket]:
        link = Link(Connection(b"127.0.0.1:1"), channel._timing, channel._clock, lambda _: None, lambda _: None)
        upstream = Socket()
        link.connection_made(cast(asyncio.Transport, upstream))
        link.data_received(frame(wire.SETTINGS, 0, 0, b"") + frame(wire.SETTINGS, wire.ACK, 0, b""))
        self.loop.turn()
        channel._links.append(link)
        channel._ready.set()
        upstream.take()
        return link, upstream

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()
        asyncio._set_running_loop(self._before)

    # What happens, step by step: each is one turn of the loop, as it would be with sockets.

    def ask(self, request: bytes) -> None:
        """A request's bytes come."""
        self.protocol.data_received(request)
        self.loop.turn()

    def hear(self, frames: bytes) -> None:
        """Frames come from the replica."""
        self.link.data_received(frames)
        self.loop.turn()


class _App:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the path left the hot routes")


def http_request(*, stream: bool) -> bytes:
    """A chat request of about 300 bytes of text, as the openai package sends it."""
    body = orjson.dumps(
        {
            "messages": [{"role": "user", "content": QUESTION}],
            "model": "assistant",
            "max_tokens": 64,
            "temperature": 0.7,
            "stream": stream,
        }
    )
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        "User-Agent: OpenAI/Python 3.0.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Async: false\r\n"
        f"Authorization: Bearer {API_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


REQUESTS = {stream: http_request(stream=stream) for stream in (False, True)}
