"""Live control under load, over a real Triton: weights move, nothing is dropped, and the end is orderly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli.__main__ import cli
from gateway.cli.admin import ask
from tests.e2e.running import Running, serving

ASK = {"model": "assistant", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
LONG = {"model": "assistant", "max_tokens": 2048, "stream": True}
COUNT = [{"role": "user", "content": "Count from 1 to 200."}]
SET = "/endpoints/assistant/set"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live-control")


@pytest.fixture(scope="module")
def live(folder: Path) -> Iterator[Running]:
    with serving(folder, "--workers", "2") as running:
        yield running


@pytest.mark.asyncio
async def test_weights_change_twenty_times_under_load_and_nothing_is_dropped(live: Running) -> None:
    going = True
    statuses: list[int] = []
    versions: set[str] = set()

    async def client(http: httpx.AsyncClient, number: int) -> None:
        url = f"{live.url}/chat/completions"
        while going:  # a connection for each request, so that both workers are met
            answer = await http.post(url, json={**ASK, "user": f"{number}"}, headers={"connection": "close"})
            statuses.append(answer.status_code)
            versions.add(answer.headers["x-penstock-version"])

    http = httpx.AsyncClient(timeout=60)
    clients = [asyncio.create_task(client(http, number)) for number in range(8)]
    for turn in range(20):
        weights = {"v1": 100 - 5 * turn, "v2": 5 * turn}
        answer: dict[str, Any] = await asyncio.to_thread(ask, live.state, "POST", SET, {"split": weights})
        async with asyncio.timeout(60):  # it has answered within a second; a busy machine may need more to agree
            while not (answer["agreed"] and not answer["absent"]):
                answer = await asyncio.to_thread(ask, live.state, "POST", SET, {"split": weights})
        assert [worker["generation"] for worker in answer["workers"]] == [answer["generation"]] * 2
        before = len(statuses)
        async with asyncio.timeout(100):
            while len(statuses) < before + 8:
                await asyncio.sleep(0.01)
    going = False
    await asyncio.gather(*clients)
    await http.aclose()
    assert set(statuses) == {200}
    assert versions == {"assistant@v1", "assistant@v2"}


@pytest.mark.asyncio
async def test_sigterm_with_fifty_streams_open_ends_each_properly(live: Running) -> None:
    opened = asyncio.Event()
    count = 0

    async def stream(http: httpx.AsyncClient) -> str:
        nonlocal count
        lines = []
        async with http.stream("POST", f"{live.url}/chat/completions", json={**LONG, "messages": COUNT}) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if not lines:
                    count += 1
                    if count == 50:
                        opened.set()
                if line:
                    lines.append(line)
        return lines[-1]

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=100, limits=limits) as http:
        streams = [asyncio.create_task(stream(http)) for _ in range(50)]
        await asyncio.wait_for(opened.wait(), 90)
        live.process.terminate()
        lasts = await asyncio.gather(*streams)
    assert await asyncio.to_thread(live.process.wait, 60) == 0
    for last in lasts:
        assert last == "data: [DONE]" or json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert "Traceback" not in live.stderr.read_text()


def test_decisions_survive_the_restart(live: Running, folder: Path) -> None:
    assert live.process.poll() == 0
    with serving(folder, "--workers", "2") as again:
        model = httpx.get(f"{again.url}/models").json()["data"][0]
        assert model["versions"] == pytest.approx({"v1": 0.05, "v2": 0.95})
        listed = json.loads(CliRunner().invoke(cli, ["endpoints", "--state", str(again.state), "--json"]).stdout)
        assert listed["running"] is True
        assert [row["share"] for row in listed["versions"]] == pytest.approx([0.05, 0.95])
        entries = ask(again.state, "GET", "/audit?n=100")["entries"]
        assert len([entry for entry in entries if entry["action"] == "set"]) >= 20
