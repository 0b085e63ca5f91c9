"""The loop of requests, with links that do as they are told: nothing asked is lost, whatever becomes of links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from loadtests.bench import asking, load_http
from loadtests.bench.asking import Asked, Link, Run
from loadtests.bench.load_http import HttpLink, HttpTarget
from loadtests.bench.question import Question
from loadtests.bench.reply import Reads, Reply

Deed = Callable[[Run, Link, int], None]


def answers(run: Run, link: Link, serial: int) -> None:
    run.ended(link)


def breaks(run: Run, link: Link, serial: int) -> None:
    run.ended(link, "broken", lost=True)


def misses(run: Run, link: Link, serial: int) -> None:
    run.missed(link)


def stays_silent(run: Run, link: Link, serial: int) -> None:
    return None


class FakeLink:
    def __init__(self, run: Run, deed: Deed) -> None:
        self.run = run
        self.deed = deed
        self.closed = False

    def ask(self, serial: int) -> None:
        self.run.begin(self, serial)
        asyncio.get_running_loop().call_soon(self.deed, self.run, self, serial)

    def close(self) -> None:
        self.closed = True


class FakeTarget:
    """Each link does what is next in the list; the last for ever. None: it can't be connected."""

    def __init__(self, *deeds: Deed | None) -> None:
        self.deeds = list(deeds)
        self.links: list[FakeLink] = []

    async def connect(self, run: Run) -> Link:
        deed = self.deeds.pop(0) if len(self.deeds) > 1 else self.deeds[0]
        if deed is None:
            raise ConnectionRefusedError("nobody is there")
        self.links.append(FakeLink(run, deed))
        return self.links[-1]

    def read(self, reads: Reads) -> Reply:
        return Reply()

    async def close(self) -> None:
        return None


def run(target: FakeTarget, *, concurrency: int, requests: int, seconds: float = 60.0) -> list[Asked]:
    async def go() -> list[Asked]:
        whole = Run(target, concurrency)
        await whole.connect()
        try:
            return await whole.go(requests, seconds)
        finally:
            whole.close()
            assert all(link.closed for link in whole._links)

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("deeds", "concurrency", "requests", "errors", "links"),
    [
        ([answers], 3, 10, 0, 3),
        ([answers], 5, 2, 0, 5),
        ([breaks, answers], 1, 5, 1, 2),
        ([breaks], 2, 6, 6, 8),
        ([misses, answers], 1, 5, 0, 2),
        ([misses, misses, answers, misses, answers], 2, 7, 0, 5),
        ([answers, breaks, None], 2, 9, 2, 2),
    ],
)
def test_every_request_ends_once(
    deeds: list[Deed | None], concurrency: int, requests: int, errors: int, links: int
) -> None:
    target = FakeTarget(*deeds)
    asked = run(target, concurrency=concurrency, requests=requests)
    assert sum(bool(one.error) for one in asked) == errors
    assert sum(not one.error for one in asked) == requests - errors + (None in deeds)
    assert len(target.links) == links
    serials = [one.serial for one in asked if one.serial]
    assert len(set(serials)) == len(serials)


def test_each_link_asks_once_even_when_the_time_has_passed() -> None:
    assert len(run(FakeTarget(answers), concurrency=4, requests=100, seconds=0.0)) == 4
    assert len(run(FakeTarget(misses, misses, answers), concurrency=2, requests=100, seconds=0.0)) == 2


def test_what_never_ends_is_an_error_and_its_link_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "GRACE_S", 0.05)
    target = FakeTarget(answers, stays_silent)
    asked = run(target, concurrency=2, requests=3, seconds=0.0)
    assert sorted(one.error for one in asked) == ["", "no end after 0.05 s"]
    assert target.links[1].closed


class FakeRun:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def begin(self, link: Link, serial: int) -> Asked:
        return Asked(serial, 0.0)

    def ended(self, link: Link, error: str = "", *, lost: bool = False) -> None:
        self.heard.append(f"ended {lost} {error}")

    def missed(self, link: Link) -> None:
        self.heard.append("missed")


class FakeTransport:
    def write(self, data: bytes) -> None:
        return None


@pytest.mark.parametrize(
    ("rested_s", "read", "heard"),
    [
        (2.0, b"", ["missed"]),
        (2.0, b"HTTP/1.1 200", ["ended True the connection was lost before the end (closed)"]),
        (0.5, b"", ["ended True the connection was lost before the end (closed)"]),
    ],
)
def test_only_a_connection_that_rested_may_be_closed_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, rested_s: float, read: bytes, heard: list[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(load_http, "clock", lambda: now[0])
    fake = FakeRun()
    link = HttpLink(fake, HttpTarget("http://127.0.0.1:1/v1", "m", {}, Question("unary", 1)))
    link.connection_made(FakeTransport())
    now[0] += rested_s
    link.ask(1)
    if read:
        link.data_received(read)
    link.connection_lost(None)
    assert fake.heard == heard
