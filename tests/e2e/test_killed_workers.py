"""Workers are killed -9 under load: what a client has received is in the journal, and other workers' streams go on.

The claim: a response received in full more than 200 ms before the kill of its worker has exactly one record. Of a
worker that was not killed every response has one. PENSTOCK_KILLS is the number of kills: 3 without it, for the time
of the suite. PENSTOCK_KILLS=10 pytest -s tests/e2e/test_killed_workers.py is the acceptance, and prints its figures.

All waiting is for events but for one sleep, of the 200 ms that are the claim itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import select
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.journal.reader import read
from gateway.journal.record import Record
from gateway.journal.segments import journal_folder, list_segments
from gateway.journal.verify import verify
from tests.e2e.running import Running, alive, children, serving

KILLS = int(os.environ.get("PENSTOCK_KILLS") or 3)
CLAIM_S = 0.2
CLIENTS = 8
STREAMS = 3  # of each worker
SHORT = {"model": "assistant", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
COUNT = [{"role": "user", "content": "Count from 1 to 200."}]
# A pin and greedy, so that each stream must be the same text. The model ends this count after some 400 tokens.
LONG = {"model": "assistant@v2", "temperature": 0, "max_tokens": 2048, "stream": True, "messages": COUNT}
# What a client meets when the process at the other end is killed.
GONE = (ConnectionError, asyncio.IncompleteReadError)


@dataclass(frozen=True)
class Answer:
    """A response that a client has received in full. `received` is monotonic seconds, `worker` a process id."""

    id: str
    worker: int
    text: str
    finish: str
    received: float


@dataclass
class Connection:
    """A keep-alive connection, and the process that accepted it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    worker: int = 0

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, int | None]:
        """Send a request and read the answer's head: status and length, None where the body comes in pieces."""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nhost: penstock\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        self.writer.write(body)
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status.split()[1]), int(headers["content-length"]) if "content-length" in headers else None

    async def ask(self, body: dict[str, Any], begun: asyncio.Event | None = None) -> Answer:
        """A chat completion, received in full. `begun` is set with its first text, and at its end in any case."""
        begun = begun or asyncio.Event()
        try:
            status, size = await self.send("POST", "/v1/chat/completions", orjson.dumps(body))
            if size is None:
                return await self._stream(begun)
            whole = orjson.loads(await self.reader.readexactly(size))
            assert status == 200, whole
            choice = whole["choices"][0]
            return self._answer(whole["id"], choice["message"]["content"], choice["finish_reason"])
        finally:
            begun.set()

    async def _stream(self, begun: asyncio.Event) -> Answer:
        identity = text = finish = event = ""
        async for event in self._events():
            if event != "[DONE]":
                chunk = orjson.loads(event)
                assert "error" not in chunk, event
                identity = chunk["id"]
                text += chunk["choices"][0]["delta"].get("content") or ""
                finish = chunk["choices"][0]["finish_reason"] or ""
                if text:
                    begun.set()
        assert event == "[DONE]"
        return self._answer(identity, text, finish)

    async def _events(self) -> AsyncIterator[str]:
        rest = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            *events, rest = (rest + (await self.reader.readexactly(size + 2))[:-2]).split(b"\n\n")
            for event in events:
                yield event.decode().removeprefix("data: ")
        assert await self.reader.readexactly(2) == b"\r\n"
        assert rest == b""

    def _answer(self, identity: str, text: str, finish: str) -> Answer:
        return Answer(identity.removeprefix("chatcmpl-"), self.worker, text, finish, time.monotonic())


@dataclass
class Ground:
    """The gateway, what was done to it, and what its clients received. `killed`: process id → monotonic seconds."""

    gateway: Running
    killed: dict[int, float] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    broken: int = 0
    unready: int = 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A new one, whose worker has said that it is ready; which of them it is, the kernel chooses."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        try:
            one = Connection(reader, writer)
            status = 0
            while status != 200:  # one that was started again answers before it knows its models
                status, size = await one.send("GET", "/ready")
                await reader.readexactly(size or 0)
                self.unready += status == 503
            one.worker = self._holder(writer.get_extra_info("sockname")[1])
            yield one
        finally:
            writer.close()
            with contextlib.suppress(*GONE):
                await writer.wait_closed()

    async def connections(self, stack: contextlib.AsyncExitStack, each: int) -> dict[int, list[Connection]]:
        """`each` connections of each of two workers; those of a worker that is starting wait until it is ready."""
        held: dict[int, list[Connection]] = {}
        while len(held) < 2 or min(map(len, held.values())) < each:
            one = await stack.enter_async_context(self.connection())
            held.setdefault(one.worker, []).append(one)
        assert len(held) == 2
        return {worker: found[:each] for worker, found in held.items()}

    def workers(self) -> dict[int, int]:
        """Those that live: number → process id."""
        named = {command.strip(): pid for pid, command in children(self.gateway.process.pid).items()}
        return {number: named[name] for number in (1, 2) if (name := f"penstock: worker {number}") in named}

    def kill(self, worker: int) -> None:
        """Returns when it is dead, so that nothing that begins afterwards can be its work."""
        descriptor = os.pidfd_open(worker)
        try:
            self.killed[worker] = time.monotonic()
            os.kill(worker, signal.SIGKILL)
            assert select.select([descriptor], [], [], 30)[0]
        finally:
            os.close(descriptor)

    async def load(self, going: asyncio.Event) -> None:
        """One client: short requests, whole and streamed in turn, on a new connection every eight of them."""
        while going.is_set():
            before, worker = len(self.killed), 0
            try:
                async with self.connection() as one:
                    worker = one.worker
                    for number in range(8):
                        self.answers.append(await one.ask({**SHORT, "stream": number % 2 == 1}))
            except GONE:
                # Of a connection that nobody has answered yet it isn't known whose it was.
                assert worker in self.killed or (not worker and len(self.killed) > before)
                self.broken += 1

    def _holder(self, client: int) -> int:
        # The kernel names our end of a connection by its ports, and then the socket by its number among our files.
        ends = f":{self.gateway.port:04X}", f":{client:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        sockets = {f"socket:[{row[9]}]" for row in rows if (row[1][-5:], row[2][-5:]) == ends}
        for pid in self.workers().values():
            with contextlib.suppress(FileNotFoundError):  # killed meanwhile
                for file in list(Path(f"/proc/{pid}/fd").iterdir()):
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        if str(file.readlink()) in sockets:
                            return pid
        raise ConnectionResetError("the worker that had answered was killed")


async def kill_one(ground: Ground, number: int, quiet: Answer) -> int:
    """One round: kill that worker amid six streams; how many of the other worker's were open at that moment."""
    async with contextlib.AsyncExitStack() as stack:
        held = await ground.connections(stack, STREAMS)
        victim = ground.workers()[number]
        (other,) = held.keys() - {victim}
        ground.answers.append(await held[victim][0].ask(SHORT))
        await asyncio.sleep(CLAIM_S)  # the claim: that answer must not be lost
        events = [asyncio.Event() for _ in range(2 * STREAMS)]
        pairs = zip([*held[victim], *held[other]], events, strict=True)
        streams = [asyncio.create_task(one.ask(LONG, event)) for one, event in pairs]
        for event in events:
            await event.wait()
        still_open = sum(not stream.done() for stream in streams[STREAMS:])
        ground.kill(victim)
        results = await asyncio.gather(*streams, return_exceptions=True)
    for result in results[:STREAMS]:
        assert isinstance(result, (Answer, *GONE)), result
    for result in results[STREAMS:]:
        assert isinstance(result, Answer), result
        assert (result.finish, result.text) == (quiet.finish, quiet.text)
    assert alive([other]) == [other]
    ground.answers += [result for result in results if isinstance(result, Answer)]
    return still_open


def lost(answers: list[Answer], journal: dict[str, Record]) -> list[Answer]:
    """Those that have no record, or one that tells something else than the client was told."""
    found = []
    for answer in answers:
        record = journal.get(answer.id)
        told = record and (record.outcome, record.choices[0].text, record.choices[0].finish)
        if told != ("finished", answer.text, answer.finish):
            found.append(answer)
    return found


@pytest.mark.asyncio
@pytest.mark.timeout(60 + 30 * KILLS)
async def test_a_killed_worker_loses_nothing_that_was_received_and_disturbs_no_other(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as gateway:
        ground = Ground(gateway)
        async with ground.connection() as one:
            quiet = await one.ask(LONG)
        assert quiet.finish
        going = asyncio.Event()
        going.set()
        clients = [asyncio.create_task(ground.load(going)) for _ in range(CLIENTS)]
        still_open = [await kill_one(ground, 1 + turn % 2, quiet) for turn in range(KILLS)]
        going.clear()
        await asyncio.gather(*clients)
        async with contextlib.AsyncExitStack() as stack:
            await ground.connections(stack, 1)  # the last one killed is back too
        assert gateway.stop() == 0
        assert gateway.stderr.read_text().count("is started again") == len(ground.killed) == KILLS

    folder = journal_folder(gateway.state)
    records = list(read(folder))
    assert [identity for identity, count in Counter(record.id for record in records).items() if count > 1] == []
    journal = {record.id: record for record in records}
    due: list[Answer] = []
    late: list[Answer] = []
    for answer in ground.answers:
        in_time = answer.received < ground.killed.get(answer.worker, math.inf) - CLAIM_S
        (due if in_time else late).append(answer)
    of_killed = [answer for answer in due if answer.worker in ground.killed]
    assert lost(due, journal) == []
    assert {answer.worker for answer in of_killed} == set(ground.killed)
    assert sum(still_open) > 0  # else nothing could have been disturbed

    writers = {segment.path.name: segment.pid for segment in list_segments(folder)}
    verdicts = list(verify(folder))
    for verdict in verdicts:
        assert verdict.sound or writers[verdict.segment] in ground.killed, verdict
        assert (verdict.damaged, verdict.unreadable, verdict.unknown) == ((), (), False), verdict
    print(
        f"{KILLS} kills; {len(due)} responses due, {len(of_killed)} of them by killed workers: 0 lost; "
        f"{len(late)} received less than {CLAIM_S} s before the kill, {len(lost(late, journal))} of them lost; "
        f"streams of the other worker open at each kill: {still_open}, 0 disturbed; "
        f"{ground.broken} connections of the load broken; {ground.unready} times not ready; "
        f"{sum(verdict.torn > 0 for verdict in verdicts)} torn tails"
    )
