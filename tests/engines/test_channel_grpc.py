"""A Channel against grpcio's own server, in this process: the peer that Triton has, too.

grpcio's client is the oracle where the question is what a call ought to report.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from gateway.engines.channel import Channel
from gateway.engines.http2 import Method

PATIENCE = 20.0  # seconds; reached only by a test that fails
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Ears:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.first = asyncio.get_running_loop().create_future()
        self.end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)
        if not self.first.done():
            self.first.set_result(message)

    def on_close(self, status: int, detail: str) -> None:
        self.end.set_result((status, detail))

    async def closed(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.end, PATIENCE)


class Service:
    """Generic handlers on bytes."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.metadata: dict[str, Any] = {}
        self.remaining = 0.0

    async def echo(self, request: bytes, context: Any) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        return request

    async def count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """As many messages as asked for, each with the request's name, giving way now and then."""
        name, times = request.split(b" ")
        for i in range(int(times)):
            if i % 7 == 0:
                await asyncio.sleep(0)
            yield b"%s %d" % (name, i)

    async def hang(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.remaining = context.time_remaining() or 0.0
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def fail(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "kein Modell „größer“ als 100% \n")
        raise AssertionError

    async def fail_late(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "x" * 3000)

    async def crash(self, request: bytes, context: Any) -> bytes:
        raise RuntimeError("a bug")

    def handler(self) -> Any:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            "t.T",
            {
                "Echo": unary(self.echo),
                "Count": stream(self.count),
                "Hang": stream(self.hang),
                "Fail": unary(self.fail),
                "FailLate": stream(self.fail_late),
                "Crash": unary(self.crash),
            },
        )


ECHO, COUNT, HANG = Method("/t.T/Echo"), Method("/t.T/Count"), Method("/t.T/Hang")


async def serve(service: Service, port: int = 0, **options: int) -> tuple[grpc.aio.Server, int]:
    given = tuple((f"grpc.{key}", value) for key, value in options.items())
    server = grpc.aio.server(options=(*UNLIMITED, ("grpc.so_reuseport", 0), *given))
    server.add_generic_rpc_handlers((service.handler(),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, bound


@contextlib.asynccontextmanager
async def pair(connections: int = 2, **options: int) -> AsyncIterator[tuple[Service, Channel]]:
    service = Service()
    server, port = await serve(service, **options)
    channel = Channel("127.0.0.1", port, connections=connections)
    await channel.start()
    try:
        assert await channel.wait_ready(PATIENCE)
        yield service, channel
    finally:
        await channel.close()
        await server.stop(0)


async def echo_of_all_sizes() -> None:
    async with pair() as (_, channel):
        for size in (0, 1, 100, 16_378, 16_379, 16_380, 65_530, 65_531, 70_000, 5_000_000):
            request = bytes(range(256)) * (size // 256) + bytes(size % 256)
            ears = Ears()
            channel.call(ECHO, request, ears, timeout=PATIENCE)
            assert await ears.closed() == (0, "")
            assert ears.messages == [request]


async def a_stream_of_1000() -> None:
    async with pair() as (_, channel):
        ears = Ears()
        channel.call(COUNT, b"a 1000", ears)
        assert await ears.closed() == (0, "")
        assert ears.messages == [b"a %d" % i for i in range(1000)]


async def streams_side_by_side() -> None:
    async with pair() as (_, channel):
        ears = [Ears() for _ in range(200)]
        for i, ear in enumerate(ears):
            channel.call(COUNT, b"call-%d %d" % (i, 20 + i % 11), ear)
        assert channel.in_flight == 200
        for i, ear in enumerate(ears):
            assert await ear.closed() == (0, "")
            assert ear.messages == [b"call-%d %d" % (i, k) for k in range(20 + i % 11)]
        assert channel.in_flight == 0


async def cancel_is_seen() -> None:
    async with pair() as (service, channel):
        ears = Ears()
        call = channel.call(HANG, b"", ears)
        assert await asyncio.wait_for(ears.first, PATIENCE) == b"begun"
        call.cancel()
        await asyncio.wait_for(service.cancelled.wait(), PATIENCE)
        assert not ears.end.done()
        after = Ears()
        channel.call(ECHO, b"still there", after)
        assert await after.closed() == (0, "")


SCENARIOS = [echo_of_all_sizes, a_stream_of_1000, streams_side_by_side, cancel_is_seen]


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_with_asyncio(scenario: Any) -> None:
    await scenario()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_uvloop(scenario: Any) -> None:
    async def checked() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        await scenario()

    main: Coroutine[Any, Any, None] = checked()
    uvloop.run(main)


@pytest.mark.asyncio
async def test_the_deadline_is_told_and_kept() -> None:
    async with pair() as (service, channel):
        ears = Ears()
        channel.call(HANG, b"", ears, timeout=0.3)
        assert (await ears.closed())[0] == 4
        assert 0.0 < service.remaining <= 0.3
        await asyncio.wait_for(service.cancelled.wait(), PATIENCE)


@pytest.mark.asyncio
async def test_metadata_reaches_the_handler() -> None:
    async with pair() as (service, channel):
        ears = Ears()
        channel.call(ECHO, b"", ears, metadata=[(b"traceparent", b"00-1-2-01"), (b"blob-bin", b"/wA")])
        assert (await ears.closed())[0] == 0
        assert service.metadata["traceparent"] == "00-1-2-01"
        assert service.metadata["blob-bin"] == b"\xff\x00"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["Echo", "Fail", "FailLate", "Crash", "Missing"])
async def test_a_call_reports_what_grpcios_client_reports(name: str) -> None:
    service = Service()
    server, port = await serve(service)
    path = f"/t.T/{name}"
    ours, theirs = Channel("127.0.0.1", port, connections=1), grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        call = theirs.unary_stream(path)(b"x")
        messages = []
        with contextlib.suppress(grpc.aio.AioRpcError):  # `code` and `details` tell
            async for message in call:
                messages.append(message)
        await ours.start()
        assert await ours.wait_ready(PATIENCE)
        for _ in range(2):  # the second time from the cache of header blocks
            ears = Ears()
            ours.call(Method(path), b"x", ears)
            status, detail = await ears.closed()
            assert (status, detail) == ((await call.code()).value[0], await call.details())
            assert ears.messages == messages
    finally:
        await ours.close()
        await theirs.close()
        await server.stop(0)


@pytest.mark.asyncio
async def test_the_servers_stream_limit_is_kept_by_opening_connections() -> None:
    async with pair(connections=1, max_concurrent_streams=10) as (_, channel):
        ears = [Ears() for _ in range(80)]
        for i, ear in enumerate(ears):
            channel.call(COUNT, b"%d 5" % i, ear)
        for ear in ears:
            assert await ear.closed() == (0, "")
        assert channel.counters.connects == 8


@pytest.mark.asyncio
async def test_a_server_that_stops_lets_calls_end_and_its_successor_is_found() -> None:
    service = Service()
    server, port = await serve(service)
    channel = Channel("127.0.0.1", port, connections=1)
    await channel.start()
    try:
        assert await channel.wait_ready(PATIENCE)
        running = Ears()
        channel.call(COUNT, b"a 300", running)
        await asyncio.wait_for(running.first, PATIENCE)
        stopping = asyncio.ensure_future(server.stop(PATIENCE))
        assert (await running.closed())[0] == 0
        assert len(running.messages) == 300
        await stopping
        while channel.ready:
            await asyncio.sleep(0)
        server, _ = await serve(service, port)
        assert await channel.wait_ready(PATIENCE)
        again = Ears()
        channel.call(ECHO, b"hello", again)
        assert (await again.closed())[0] == 0
        assert channel.counters.connects == 2
    finally:
        await channel.close()
        await server.stop(0)


@pytest.mark.asyncio
async def test_grpcio_answers_a_ping_and_says_goodbye_to_too_many() -> None:
    async with pair(connections=1) as (_, channel):
        [link] = channel._links
        link.connection.ping()
        link._schedule()
        while link.connection.pings:
            await asyncio.sleep(0)
        assert link.established
        for _ in range(8):
            link.connection.ping()
        link._schedule()
        await asyncio.wait_for(link.over, PATIENCE)
        assert "too_many_pings" in channel.counters.last_error
