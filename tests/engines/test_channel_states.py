"""What a channel tells of its connections."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engines import http2_frames as wire
from gateway.engines.channel import Timing
from tests.engines.test_channel import METHOD, Ears, channel, replica, soon, unused_port


@pytest.mark.asyncio
async def test_states_and_events() -> None:
    options = {"max_connections": 1, "timing": Timing(healthy_after=0.0)}
    async with replica(max_concurrent_streams=1) as there, channel(there.port, **options) as here:
        assert here.connections == {"ready": 1, "full": 0, "draining": 0, "connecting": 0}
        ear = Ears()
        here.call(METHOD, b"q", ear)
        assert here.connections == {"ready": 0, "full": 1, "draining": 0, "connecting": 0}
        first = await there.visit()
        stream = await soon(first.requests.get())
        first.transport.write(wire.goaway(stream, wire.NO_ERROR, "maintenance"))
        while not here.connections["draining"]:
            await asyncio.sleep(0)
        assert here.connections["full"] == 0
        assert here.connections["ready"] + here.connections["connecting"] == 1
        await there.visit()
        first.answer(stream)
        await soon(first.gone)
        while here.connections != {"ready": 1, "full": 0, "draining": 0, "connecting": 0}:
            await asyncio.sleep(0)
        assert here.events == {"connected": 2, "failed": 0, "lost": 1, "goaway": 1}


@pytest.mark.asyncio
async def test_a_replica_that_is_away() -> None:
    async with channel(unused_port(), connections=2, wait=False) as here:
        while not here.events["failed"]:
            await asyncio.sleep(0)
        assert here.connections == {"ready": 0, "full": 0, "draining": 0, "connecting": 2}
    assert here.connections == {"ready": 0, "full": 0, "draining": 0, "connecting": 0}
