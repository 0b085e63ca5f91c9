"""A worker's end: what is open when the grace time has passed ends with an error that says so, and is recorded."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway import app
from gateway.config import load
from gateway.engines.scripted import HOLD, ScriptedEngine
from gateway.journal.record import Record
from gateway.orders import Orders
from tests.inprocess import endpoint

BODY = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.asyncio
async def test_open_streams_end_with_an_error_and_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "DRAIN_S", 0.2)
    config = load(None)
    config = replace(config, server=replace(config.server, state=tmp_path), endpoints={"chat": endpoint("chat")})
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.setblocking(False)
    reports, report = os.pipe()
    os.set_blocking(report, False)
    orders = Orders(
        index=1,
        config=config,
        engine="127.0.0.1:1",
        grpc="127.0.0.1:0",
        started=0,
        secret="00" * 32,
        http_fd=listener.detach(),
        report_fd=report,
        parent=os.getpid(),
    )
    worker = app.Worker(orders, asyncio.get_running_loop())
    records: list[Record] = []
    worker.service.journal = records.append
    worker.service.engine = ScriptedEngine(["Hello", HOLD])
    running = asyncio.create_task(worker.run())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(BODY).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await asyncio.wait_for(reader.readuntil(b"Hello"), 60)
        assert len(worker.service.open) == 1
        worker.stop()
        rest = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await asyncio.wait_for(running, 60)
    finally:
        running.cancel()
        os.close(reports)
    assert b'"code":"shutting_down"' in rest
    assert rest.endswith(b"\r\n0\r\n\r\n"), "the stream is complete as HTTP has it"
    assert [(record.outcome, record.failure and record.failure.code) for record in records] == [
        ("failed", "shutting_down")
    ]
    assert not worker.service.open
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
