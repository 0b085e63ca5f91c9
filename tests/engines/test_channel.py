"""A Channel against replicas that misbehave on demand: small asyncio servers, with h2 for their HTTP/2.

Nothing here sleeps: tests wait for what a replica saw, for what a call heard, or for a connection to be gone.
Pauses between attempts are drawn by a generator that the test owns; silence passes on a clock that it sets.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from gateway.engines import http2_frames as wire
from gateway.engines import http2_link
from gateway.engines.channel import Channel, Timing
from gateway.engines.http2 import Method

METHOD = Method("/p.S/M")
PATIENCE = 10.0  # seconds; reached only by a test that fails
OK_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]


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
        self.end.set_result((status, detail))  # a second end raises

    async def closed(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.end, PATIENCE)


class Visit(asyncio.Protocol):
    """One connection as the replica sees it."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.requests: asyncio.Queue[int] = asyncio.Queue()
        self.resets: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.pings: asyncio.Queue[bytes] = asyncio.Queue()
        self.goodbye: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.replica.visits.put_nowait(self)
        self.replica.all_visits.append(self)
        if self.replica.says is not None:
            transport.write(self.replica.says)
            return
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=self.replica.settings)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.replica.deaf:
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.headers[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.requests.put_nowait(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets.put_nowait((event.stream_id, event.error_code))
            elif isinstance(event, h2.events.PingReceived):
                self.pings.put_nowait(event.ping_data)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goodbye.set_result(event.error_code)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set_result(None)

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def answer(self, stream: int, *messages: bytes, status: int | None = 0) -> None:
        """Headers, messages, and trailers unless `status` is None."""
        self.h2.send_headers(stream, OK_HEADERS)
        for message in messages:
            self.h2.send_data(stream, b"\x00" + len(message).to_bytes(4, "big") + message)
        if status is not None:
            self.end(stream, status)
        self.flush()

    def end(self, stream: int, status: int = 0) -> None:
        self.h2.send_headers(stream, [(b"grpc-status", b"%d" % status)], end_stream=True)
        self.flush()


class Replica:
    """Listens; what its visits do is up to the test."""

    def __init__(self, *, says: bytes | None = None, **first_settings: int) -> None:
        self.visits: asyncio.Queue[Visit] = asyncio.Queue()
        self.settings = {h2.settings.SettingCodes[key.upper()]: value for key, value in first_settings.items()}
        self.says = says  # instead of HTTP/2
        self.deaf = False
        self.port = 0
        self.all_visits: list[Visit] = []

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Visit(self), host, port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.server.close()
        for visit in self.all_visits:
            visit.transport.abort()
            await soon(visit.gone)

    async def visit(self) -> Visit:
        return await soon(self.visits.get())


class Dice(random.Random):
    """Notes the limits of the pauses that were drawn; draws none."""

    def __init__(self) -> None:
        super().__init__(0)
        self.limits: list[float] = []
        self.drawn = asyncio.Event()

    def uniform(self, a: float, b: float) -> float:
        self.limits.append(b)
        self.drawn.set()
        return 0.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE)


@asynccontextmanager
async def replica(host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Replica]:
    made = Replica(**options)
    await made.listen(host)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def channel(port: int, host: str = "127.0.0.1", *, wait: bool = True, **options: Any) -> AsyncIterator[Channel]:
    made = Channel(host, port, **{"connections": 1, "rng": Dice(), **options})
    await made.start()
    try:
        if wait:
            assert await made.wait_ready(PATIENCE)
        yield made
    finally:
        await made.close()


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---------------------------------------------------------------------- calls


@pytest.mark.asyncio
async def test_a_call_and_its_answer() -> None:
    async with replica() as there, channel(there.port) as here:
        ears = Ears()
        here.call(METHOD, b"prompt", ears, timeout=30, metadata=[(b"k", b"v")])
        assert here.in_flight == 1
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        assert visit.bodies[stream] == b"\x00\x00\x00\x00\x06prompt"
        assert visit.headers[stream][b"grpc-timeout"] == b"30000000u"
        assert visit.headers[stream][b"k"] == b"v"
        assert visit.headers[stream][b":authority"] == f"127.0.0.1:{there.port}".encode()
        visit.answer(stream, b"a", b"b")
        assert await ears.closed() == (0, "")
        assert ears.messages == [b"a", b"b"]
        assert here.in_flight == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["localhost", "::1"])
async def test_names_and_ipv6(host: str) -> None:
    try:
        async with (
            replica("::1" if host == "::1" else "127.0.0.1") as there,
            channel(there.port, host) as here,
        ):
            here.call(METHOD, b"", Ears())
            visit = await there.visit()
            stream = await soon(visit.requests.get())
            authority = f"[::1]:{there.port}" if host == "::1" else f"localhost:{there.port}"
            assert visit.headers[stream][b":authority"] == authority.encode()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


@pytest.mark.asyncio
async def test_calls_of_one_tick_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica() as there, channel(there.port) as here:
        visit = await there.visit()
        [link] = here._links
        await asyncio.sleep(0)  # what the greeting left to send goes first
        writes: list[int] = []

        class Spy:
            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                writes.append(len(data))
                transport.write(data)

        transport = link._transport
        monkeypatch.setattr(link, "_transport", Spy())
        calls = [here.call(METHOD, b"q", Ears()) for _ in range(50)]
        for call in calls[:10]:
            call.cancel()
        assert writes == []
        for _ in range(40):
            await soon(visit.requests.get())
        assert len(writes) == 1


@pytest.mark.asyncio
async def test_the_kernel_is_told_not_to_delay_and_to_notice_dead_peers() -> None:
    async with replica() as there, channel(there.port) as here:
        transport = here._links[0]._transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


@pytest.mark.asyncio
async def test_calls_are_spread_over_the_connections() -> None:
    async with replica() as there, channel(there.port, connections=3) as here:
        visits = [await there.visit() for _ in range(3)]
        while len(here._links) < 3:
            await asyncio.sleep(0)
        for _ in range(9):
            here.call(METHOD, b"q", Ears())
        for visit in visits:
            for _ in range(3):
                await soon(visit.requests.get())
        assert [link.connection.in_flight for link in here._links] == [3, 3, 3]


@pytest.mark.asyncio
async def test_cancel_is_seen_by_the_replica_and_silences_the_call() -> None:
    async with replica() as there, channel(there.port) as here:
        ears, last = Ears(), Ears()
        call = here.call(METHOD, b"q", ears)
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        visit.answer(stream, b"one", status=None)
        await soon(ears.first)
        call.cancel()
        call.cancel()
        assert await soon(visit.resets.get()) == (stream, h2.errors.ErrorCodes.CANCEL)
        here.call(METHOD, b"q", last)
        visit.answer(await soon(visit.requests.get()))
        assert (await last.closed())[0] == 0
        call.cancel()
        assert not ears.end.done()


@pytest.mark.asyncio
async def test_a_call_whose_replica_ignores_the_deadline_ends_here() -> None:
    clock = Clock()
    async with replica() as there, channel(there.port, clock=clock, timing=Timing(tick=0.01)) as here:
        late, patient = Ears(), Ears()
        here.call(METHOD, b"q", late, timeout=3.0)
        here.call(METHOD, b"q", patient, timeout=30.0)
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        clock.now += 2.9
        here._links[0]._tick()
        assert here.in_flight == 2
        clock.now += 0.2
        assert (await late.closed())[0] == 4
        assert await soon(visit.resets.get()) == (stream, h2.errors.ErrorCodes.CANCEL)
        assert not patient.end.done()


@pytest.mark.asyncio
async def test_bad_metadata_is_an_error_of_the_caller_connected_or_not() -> None:
    async with replica() as there, channel(there.port) as here:
        with pytest.raises(ValueError, match="metadata"):
            here.call(METHOD, b"", Ears(), metadata=[(b"A", b"b")])
    with pytest.raises(ValueError, match="metadata"):
        here.call(METHOD, b"", Ears(), metadata=[(b"A", b"b")])


# ---------------------------------------------------------------------- connecting


@pytest.mark.asyncio
async def test_without_a_connection_a_call_fails_but_not_inside_call() -> None:
    async with channel(unused_port(), wait=False) as here:
        while not here.counters.connect_failures:
            await asyncio.sleep(0)
        ears, cancelled = Ears(), Ears()
        here.call(METHOD, b"q", ears)
        here.call(METHOD, b"q", cancelled).cancel()
        assert not ears.end.done()
        await asyncio.sleep(0)
        assert ears.end.done(), "on the next turn of the loop"
        status, detail = await ears.closed()
        assert status == 14
        assert "ConnectionRefusedError" in detail
        assert not here.ready
        assert not await here.wait_ready(0.01)
        assert not cancelled.end.done()


@pytest.mark.asyncio
async def test_pauses_between_attempts_double_up_to_a_limit() -> None:
    dice = Dice()
    async with channel(unused_port(), wait=False, rng=dice):
        while len(dice.limits) < 9:
            dice.drawn.clear()
            await soon(dice.drawn.wait())
    assert dice.limits[:9] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


@pytest.mark.asyncio
async def test_a_replica_that_comes_up_late_is_found() -> None:
    port, there = unused_port(), Replica()
    async with channel(port, wait=False) as here:
        while not here.counters.connect_failures:
            await asyncio.sleep(0)
        await there.listen(port=port)
        assert await here.wait_ready(PATIENCE)
        assert here.ready
        assert here.counters.connects == 1
    await there.close()


@pytest.mark.asyncio
async def test_a_peer_that_accepts_and_says_nothing_is_given_up() -> None:
    dice = Dice()
    async with (
        replica(says=b"") as there,
        channel(there.port, wait=False, rng=dice, timing=Timing(connect_timeout=0.03)) as here,
    ):
        there.deaf = True
        visit = await there.visit()
        await soon(visit.gone)
        await soon(dice.drawn.wait())
        assert not here.ready
        assert here.counters.connect_failures >= 1
        assert "in time" in here.counters.last_error


@pytest.mark.asyncio
async def test_a_peer_that_speaks_something_else_is_no_replica() -> None:
    dice = Dice()
    async with replica(says=b"HTTP/1.1 400 Bad Request\r\n\r\n") as there:
        there.deaf = True
        async with channel(there.port, wait=False, rng=dice) as here:
            await soon(dice.drawn.wait())
            assert not here.ready
            assert "no HTTP/2 here" in here.counters.last_error
            assert here.counters.connects == 0


@pytest.mark.asyncio
async def test_a_lost_connection_ends_its_calls_and_is_replaced_at_once() -> None:
    dice = Dice()
    async with replica() as there, channel(there.port, rng=dice, timing=Timing(healthy_after=0.0)) as here:
        ears, again = Ears(), Ears()
        here.call(METHOD, b"q", ears)
        visit = await there.visit()
        await soon(visit.requests.get())
        visit.transport.abort()
        status, detail = await ears.closed()
        assert (status, "lost" in detail) == (14, True)
        visit = await there.visit()
        assert await here.wait_ready(PATIENCE)
        here.call(METHOD, b"q", again)
        visit.answer(await soon(visit.requests.get()), b"back")
        assert (await again.closed())[0] == 0
        assert dice.limits == []
        assert (here.counters.connects, here.counters.disconnects) == (2, 1)
        assert "lost" in here.counters.last_error


@pytest.mark.asyncio
async def test_a_connection_that_was_lost_young_is_replaced_after_a_pause() -> None:
    dice = Dice()
    async with replica() as there, channel(there.port, rng=dice, timing=Timing(healthy_after=60.0)):
        for _ in range(4):
            (await there.visit()).transport.abort()
        await there.visit()
    assert dice.limits[:4] == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.asyncio
async def test_goaway_drains_while_a_new_connection_takes_over() -> None:
    async with replica() as there, channel(there.port, timing=Timing(healthy_after=0.0)) as here:
        old, new = Ears(), Ears()
        here.call(METHOD, b"q", old)
        first = await there.visit()
        stream = await soon(first.requests.get())
        first.transport.write(wire.goaway(stream, wire.NO_ERROR, "maintenance"))
        second = await there.visit()
        assert await here.wait_ready(PATIENCE)
        while not any(link.available for link in here._links):
            await asyncio.sleep(0)
        here.call(METHOD, b"q", new)
        second.answer(await soon(second.requests.get()))
        assert (await new.closed())[0] == 0
        assert not old.end.done()
        assert here.in_flight == 1
        first.answer(stream, b"the end")
        assert (await old.closed())[0] == 0
        assert old.messages == [b"the end"]
        await soon(first.gone)
        assert here.counters.goaways == 1
        assert "maintenance" in here.counters.last_error


@pytest.mark.asyncio
async def test_goaway_with_nothing_in_flight_closes_the_connection() -> None:
    async with replica() as there, channel(there.port, timing=Timing(healthy_after=0.0)):
        first = await there.visit()
        first.transport.write(wire.goaway(0, wire.NO_ERROR, ""))
        await soon(first.gone)
        await there.visit()


@pytest.mark.asyncio
async def test_a_draining_connection_is_not_readiness() -> None:
    async with replica() as there, channel(there.port) as here:
        running, refused = Ears(), Ears()
        here.call(METHOD, b"q", running)
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        there.server.close()
        visit.transport.write(wire.goaway(stream, wire.NO_ERROR, "going down"))
        while here.ready:
            await asyncio.sleep(0)
        here.call(METHOD, b"q", refused)
        assert (await refused.closed())[0] == 14
        visit.answer(stream)
        assert (await running.closed())[0] == 0


@pytest.mark.asyncio
async def test_a_draining_connection_is_closed_when_its_last_call_is_cancelled() -> None:
    async with replica() as there, channel(there.port) as here:
        call = here.call(METHOD, b"q", Ears())
        first = await there.visit()
        stream = await soon(first.requests.get())
        first.transport.write(wire.goaway(stream, wire.NO_ERROR, ""))
        await there.visit()
        call.cancel()
        await soon(first.gone)


@pytest.mark.asyncio
async def test_a_connection_out_of_stream_ids_is_replaced() -> None:
    async with replica() as there, channel(there.port, timing=Timing(healthy_after=0.0)) as here:
        first = await there.visit()
        here._links[0].connection._calls.next_id = 2**31 - 1
        ears = Ears()
        here.call(METHOD, b"q", ears)
        first.answer(await soon(first.requests.get()), b"last")
        assert (await ears.closed())[0] == 0
        await soon(first.gone)
        await there.visit()


@pytest.mark.asyncio
async def test_a_broken_peer_hears_why_and_is_left() -> None:
    async with replica() as there, channel(there.port) as here:
        ears = Ears()
        here.call(METHOD, b"q", ears)
        visit = await there.visit()
        await soon(visit.requests.get())
        visit.transport.write(wire.frame(wire.DATA, 0, 0, b"x"))
        status, detail = await ears.closed()
        assert (status, "PROTOCOL_ERROR" in detail) == (14, True)
        assert await soon(visit.goodbye) == wire.PROTOCOL_ERROR
        await soon(visit.gone)


# ---------------------------------------------------------------------- silence


@pytest.mark.asyncio
async def test_a_silent_peer_is_probed_and_given_up() -> None:
    clock = Clock()
    async with replica() as there, channel(there.port, clock=clock, timing=Timing(tick=3600)) as here:
        ears = Ears()
        here.call(METHOD, b"q", ears)
        visit = await there.visit()
        await soon(visit.requests.get())
        [link] = here._links
        there.deaf = True
        clock.now += 19.9
        link._tick()
        assert link.connection.pings == 0
        clock.now += 0.2
        link._tick()
        assert link.connection.pings == 1
        clock.now += 9.9
        link._tick()
        assert not ears.end.done()
        clock.now += 0.2
        link._tick()
        status, detail = await ears.closed()
        assert (status, "PING" in detail) == (14, True)
        await soon(visit.gone)
        there.deaf = False
        await there.visit()


@pytest.mark.asyncio
async def test_a_peer_that_only_thinks_is_probed_once_in_five_minutes() -> None:
    clock = Clock()
    async with replica() as there, channel(there.port, clock=clock, timing=Timing(tick=3600)) as here:
        ears = Ears()
        here.call(METHOD, b"q", ears)
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        [link] = here._links

        async def silence(seconds: float) -> int:
            """Lets time pass, tick by tick; how many PINGs the replica saw."""
            for _ in range(int(seconds)):
                clock.now += 1.0
                link._tick()
                while link.connection.pings:
                    await asyncio.sleep(0)
            seen = visit.pings.qsize()
            while not visit.pings.empty():
                visit.pings.get_nowait()
            return seen

        assert await silence(19) == 0
        assert await silence(2) == 1
        assert await silence(298) == 0
        assert await silence(3) == 1
        visit.answer(stream, b"a token", status=None)
        await soon(ears.first)
        assert await silence(19) == 0
        assert await silence(2) == 1, "it has spoken since: a new silence"
        visit.end(stream)
        assert (await ears.closed())[0] == 0
        assert await silence(400) == 0, "nobody waits for anything"


@pytest.mark.asyncio
async def test_no_timer_runs_when_nothing_is_in_flight() -> None:
    async with replica() as there, channel(there.port, timing=Timing(tick=0.001)) as here:
        [link] = here._links
        assert link._timer is None
        ears = Ears()
        here.call(METHOD, b"q", ears)
        assert link._timer is not None
        visit = await there.visit()
        visit.answer(await soon(visit.requests.get()))
        await ears.closed()
        while link._timer is not None:
            await asyncio.sleep(0)


# ---------------------------------------------------------------------- more than there is room for


@pytest.mark.asyncio
async def test_more_calls_than_streams_open_more_connections_and_then_are_refused() -> None:
    async with replica(max_concurrent_streams=2) as there, channel(there.port, max_connections=3) as here:
        ears = [Ears() for _ in range(8)]
        for ear in ears:
            here.call(METHOD, b"q", ear)
        for ear in ears[6:]:
            status, detail = await ear.closed()
            assert (status, "all 3 connections" in detail) == (8, True)
        visits = [await there.visit() for _ in range(3)]
        for visit in visits:
            for _ in range(2):
                visit.answer(await soon(visit.requests.get()), b"a")
        for ear in ears[:6]:
            assert (await ear.closed())[0] == 0
        assert here.counters.connects == 3


@pytest.mark.asyncio
async def test_a_call_that_waits_for_a_connection_can_be_cancelled_or_expire() -> None:
    clock = Clock()
    async with replica(max_concurrent_streams=1) as there, channel(there.port, clock=clock) as here:
        cancelled, late, kept = Ears(), Ears(), Ears()
        here.call(METHOD, b"first", Ears())
        waiting = here.call(METHOD, b"cancelled", cancelled)
        here.call(METHOD, b"late", late, timeout=1.0)
        here.call(METHOD, b"kept", kept, timeout=5.0)
        waiting.cancel()
        clock.now += 2.0
        await there.visit()
        second = await there.visit()
        stream = await soon(second.requests.get())
        assert second.bodies[stream][5:] == b"kept"
        assert second.headers[stream][b"grpc-timeout"] == b"3000000u"
        assert (await late.closed())[0] == 4
        assert not cancelled.end.done()


@pytest.mark.asyncio
async def test_calls_that_wait_are_refused_when_no_more_connection_can_be_had() -> None:
    async with replica(max_concurrent_streams=1) as there, channel(there.port) as here:
        there.server.close()
        here.call(METHOD, b"q", Ears())
        ears = Ears()
        here.call(METHOD, b"q", ears)
        status, detail = await ears.closed()
        assert (status, "could not be opened" in detail) == (8, True)


@pytest.mark.asyncio
async def test_an_extra_connection_is_not_replaced() -> None:
    async with replica(max_concurrent_streams=1) as there, channel(there.port) as here:
        here.call(METHOD, b"q", Ears())
        ears = Ears()
        here.call(METHOD, b"q", ears)
        await there.visit()
        extra = await there.visit()
        await soon(extra.requests.get())
        extra.transport.abort()
        assert (await ears.closed())[0] == 14
        while len(here._slots) > 1:
            await asyncio.sleep(0)
        assert here.ready


@pytest.mark.asyncio
async def test_a_paused_transport_gets_nothing_and_its_link_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_link, "MAX_UNSENT", 50_000)
    async with replica() as there, channel(there.port, max_connections=1) as here:
        visit = await there.visit()
        [link] = here._links
        link.pause_writing()
        ears = [Ears() for _ in range(3)]
        for ear in ears[:2]:
            here.call(METHOD, b"x" * 30_000, ear)
        here.call(METHOD, b"x", ears[2])
        assert (await ears[2].closed())[0] == 8
        assert link.connection.unsent > 60_000
        link.resume_writing()
        for ear in ears[:2]:
            visit.answer(await soon(visit.requests.get()))
            assert (await ear.closed())[0] == 0
        assert link.available


@pytest.mark.asyncio
async def test_a_prompt_larger_than_every_buffer_arrives() -> None:
    async with replica() as there, channel(there.port) as here:
        prompt = random.Random(1).randbytes(3_000_000)
        ears = Ears()
        here.call(METHOD, prompt, ears)
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        assert visit.bodies[stream][5:] == prompt
        visit.answer(stream)
        assert (await ears.closed())[0] == 0


# ---------------------------------------------------------------------- the end


@pytest.mark.asyncio
async def test_close_ends_the_calls_and_says_goodbye() -> None:
    async with replica(max_concurrent_streams=1) as there:
        here = Channel("127.0.0.1", there.port, connections=1)
        await here.start()
        assert await here.wait_ready(PATIENCE)
        running, waiting, after = Ears(), Ears(), Ears()
        here.call(METHOD, b"q", running)
        visit = await there.visit()
        stream = await soon(visit.requests.get())
        here.call(METHOD, b"q", waiting)
        await here.close()
        assert (await running.closed())[0] == 1
        assert (await waiting.closed())[0] == 1
        assert await soon(visit.resets.get()) == (stream, h2.errors.ErrorCodes.CANCEL)
        assert await soon(visit.goodbye) == wire.NO_ERROR
        await soon(visit.gone)
        here.call(METHOD, b"q", after)
        assert (await after.closed()) == (14, "the channel is closed")
        await here.close()
        assert not here.ready
        assert here._links == []
        assert here._slots == set()


@pytest.mark.asyncio
async def test_close_does_not_wait_for_a_peer_that_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_link, "_CLOSE_GRACE", 0.01)
    async with replica() as there, channel(there.port) as here:
        visit = await there.visit()
        visit.transport.pause_reading()
        ears = Ears()
        here.call(METHOD, b"x" * 20_000_000, ears)
        [link] = here._links
        link.connection._sender.window = link.connection._sender.initial_window = 2**30
        here.call(METHOD, b"x" * 20_000_000, Ears())
        await asyncio.sleep(0)
        await soon(here.close())
        assert link.lost.done()
        assert (await ears.closed())[0] == 1


@pytest.mark.asyncio
async def test_close_before_a_connection_was_had() -> None:
    refused = Channel("127.0.0.1", unused_port())
    await refused.start()
    await asyncio.sleep(0)
    await soon(refused.close())
    assert refused._slots == set()
    async with replica(says=b"") as there:
        there.deaf = True
        unanswered = Channel("127.0.0.1", there.port, connections=1)
        await unanswered.start()
        visit = await there.visit()
        await soon(unanswered.close())
        assert unanswered._slots == set()
        await soon(visit.gone)


@pytest.mark.asyncio
async def test_the_repr_is_fit_for_a_log() -> None:
    async with replica() as there, channel(there.port) as here:
        assert repr(here) == f"<Channel 127.0.0.1:{there.port} [<Link <Connection open in_flight=0 unsent=0 ''>>]>"
    assert repr(here) == f"<Channel 127.0.0.1:{there.port} closed []>"
