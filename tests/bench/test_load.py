"""The load client on the real mock: both languages know the same answers; whatever goes wrong is seen and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from loadtests.bench.judging import Measured, judge
from loadtests.bench.load import measure
from loadtests.bench.load_http import HttpTarget
from loadtests.bench.question import PROMPT_BYTES, Mode, Question
from loadtests.bench.upstreams import upstreams

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its base URL."""
    with upstreams(tmp_path_factory.mktemp("mock"), lambda _: None, triton=False) as addresses:
        yield f"{addresses.openai}/v1"


def ask(url: str, question: Question, *, concurrency: int = 2, requests: int = 20) -> Measured:
    target = HttpTarget(url, "bench", {}, question)
    return asyncio.run(
        measure(target, question, concurrency=concurrency, warmup=0, requests=requests, seconds=60.0, pid=0)
    )


@pytest.mark.parametrize(
    ("mode", "tokens"), [("unary", 1), ("unary", 48), ("step", 1), ("step", 20), ("burst", 64), ("burst", 3000)]
)
def test_python_knows_what_the_mock_says(mock: str, mode: Mode, tokens: int) -> None:
    measured = ask(mock, Question(mode, tokens))
    assert (measured.requests, measured.errors, measured.wrong, measured.samples) == (20, 0, 0, [])
    assert measured.work == 20 * (1 if mode == "unary" else tokens)


def test_answers_differ_from_serial_to_serial_and_prompts_have_one_length() -> None:
    question = Question("burst", 16)
    assert len({question.answer(serial) for serial in range(2000)}) == 2000
    assert {len(question.prompt(serial).encode()) for serial in (0, 1, 9_999_999)} == {PROMPT_BYTES}
    assert {len(question.answer(serial).encode()) for serial in (0, 1, 9_999_999)} == {len(question.answer(5).encode())}


def test_an_upstream_that_says_something_else_is_wrong(mock: str) -> None:
    class Other(Question):
        def answer(self, serial: int) -> str:
            return Question.answer(self, serial + 1)

    measured = ask(mock, Other("burst", 16))
    assert (measured.requests, measured.errors, measured.wrong, measured.work) == (20, 0, 20, 0)


def test_a_prompt_that_asks_nothing_is_an_error(mock: str) -> None:
    class Silent(Question):
        def prompt(self, serial: int) -> str:
            return f"hello {serial}"

    measured = ask(mock, Silent("unary", 16))
    assert measured.errors == 20
    assert "status 400" in measured.samples[0]


def served(answer: Answer, requests: int) -> Measured:
    """The load client on a server that answers one request per connection with `answer`."""

    async def run() -> Measured:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await answer(reader, writer)
            except asyncio.IncompleteReadError:
                pass  # the client has enough
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        question = Question("unary", 4)
        target = HttpTarget(f"http://127.0.0.1:{port}/v1", "bench", {}, question)
        try:
            return await measure(target, question, concurrency=2, warmup=0, requests=requests, seconds=60.0, pid=0)
        finally:
            server.close()
            await server.wait_closed()

    return asyncio.run(run())


async def closes_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return None


async def answers_and_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}'
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()


@pytest.mark.parametrize(
    ("answer", "errors", "wrong", "words"),
    [
        (closes_early, 6, 0, "the connection was lost"),
        (says_nothing, 6, 0, "the connection was lost"),
        (answers_and_closes, 0, 6, "text differs"),
    ],
)
def test_connections_that_end_are_replaced_and_lost_replies_counted(
    answer: Answer, errors: int, wrong: int, words: str
) -> None:
    measured = served(answer, 6)
    assert (measured.requests, measured.errors, measured.wrong) == (6, errors, wrong)
    assert words in measured.samples[0]


def test_nothing_asked_is_nothing_measured() -> None:
    measured = judge([], Question("unary", 1), lambda _: pytest.fail("nothing to read"))
    assert (measured.work, measured.p50_ms) == (0, None)
