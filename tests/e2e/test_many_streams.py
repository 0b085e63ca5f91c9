"""Two hundred streams at once: all complete, each the right text for its prompt."""

from __future__ import annotations

import json

import pytest

from loadtests.streams import run
from tests.e2e.running import Running


@pytest.mark.asyncio
async def test_two_hundred_streams_do_not_mix(gateway: Running) -> None:
    figures = await run(gateway.url, "assistant@v2", streams=200, tokens=64)
    print(json.dumps(figures))
    assert figures["errors"] == []
    assert figures["right"] == 200
    assert figures["tokens"] > 200 * 32  # most of them; some counts end before 64 tokens
