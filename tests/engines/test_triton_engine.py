"""The engine against real Tritons: the stock contracts as imitations, warts included, and the embedded assistant.

One table of requests goes through all contracts with the same expectations. What the imitations answer, and
how a prompt provokes a fault, stands in tests/imitations/plan.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.core.answer import TokenLogprob
from gateway.core.errors import (
    BadRequest,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    PenstockError,
    Unsupported,
)
from gateway.core.request import Guide, Sampling
from gateway.engines.base import Engine, Job, Result
from gateway.engines.scripted import Chunk
from gateway.engines.triton import TritonEngine, parse_url
from gateway.engines.triton_call import TritonCall
from gateway.routing.version import Version
from tests.triton_server import LLMAPI, Served, running_triton

ENSEMBLE = Version(endpoint="chat", name="ensemble", model="ensemble")
BLS = Version(endpoint="chat", name="bls", model="tensorrt_llm_bls")
NEWER = Version(endpoint="chat", name="newer", model="tensorrt_llm")
ASSISTANT = Version(endpoint="chat", name="assistant", model="assistant", model_version="1")
STOCK = [ENSEMBLE, BLS, NEWER]
LIMIT = 30.0  # seconds until a test that waits for ever has failed

inside = pytest.mark.asyncio(loop_scope="module")  # one loop for all: the engines live as long as the servers
stock = pytest.mark.parametrize("version", STOCK, ids=lambda version: version.name)


async def ready(engine: TritonEngine, version: Version) -> None:
    async with asyncio.timeout(LIMIT):
        while not engine.readiness(version).ready:
            await asyncio.sleep(0.01)


class Bench:
    """The engines behind the versions, and the events of their servers."""

    def __init__(self, *served: tuple[Served, list[Version]]) -> None:
        self._places = {
            version.label: (TritonEngine(place.address, interval=0.2), place)
            for place, versions in served
            for version in versions[:1]
        }
        for place, versions in served:
            for version in versions[1:]:
                self._places[version.label] = (self._places[versions[0].label][0], place)
        self._versions = served

    async def start(self) -> None:
        for _, versions in self._versions:
            engine = self.engine(versions[0])
            await engine.start(versions)
            for version in versions:
                await ready(engine, version)

    async def close(self) -> None:
        for engine in {id(engine): engine for engine, _ in self._places.values()}.values():
            await engine.close()

    def engine(self, version: Version) -> TritonEngine:
        return self._places[version.label][0]

    def ask(self, version: Version, prompt: str, job_id: str = "", **options: Any) -> Ears:
        return ask(self.engine(version), version, prompt, job_id, **options)

    async def event(self, version: Version, event: str, job_id: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._places[version.label][1].events.wait_for, event, job_id)


class Ears:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.ends: list[Result | PenstockError] = []
        self.call: TritonCall | None = None
        self.first = asyncio.Event()
        self.over = asyncio.Event()

    def on_chunk(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        assert not self.ends, "a chunk after the end"
        self.chunks.append(Chunk(text, logprobs))
        self.first.set()

    def on_finish(self, result: Result) -> None:
        self._end(result)

    def on_error(self, error: PenstockError) -> None:
        self._end(error)

    def _end(self, end: Result | PenstockError) -> None:
        assert not self.ends, "a second end"
        self.ends.append(end)
        self.over.set()

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    async def result(self) -> Result:
        await asyncio.wait_for(self.over.wait(), LIMIT)
        [end] = self.ends
        assert isinstance(end, Result), end
        return end

    async def error(self) -> PenstockError:
        await asyncio.wait_for(self.over.wait(), LIMIT)
        [end] = self.ends
        assert isinstance(end, PenstockError), end
        return end


_serial = iter(range(10**9))


def ask(
    engine: Engine,
    version: Version,
    prompt: str,
    job_id: str = "",
    *,
    stream: bool = True,
    guide: Guide | None = None,
    timeout: float | None = LIMIT,
    **sampling: Any,
) -> Ears:
    """Start a job."""
    ears = Ears()
    sampling.setdefault("max_tokens", 1000)
    job = Job(job_id or f"job-{next(_serial)}", prompt, Sampling(**sampling), guide, stream, timeout)
    call = engine.call(version, job, ears)
    assert isinstance(call, TritonCall)
    ears.call = call
    return ears


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(classic: Served, llmapi: Served) -> AsyncIterator[Bench]:
    bench = Bench((classic, [ENSEMBLE, BLS]), (llmapi, [NEWER]))
    await bench.start()
    yield bench
    await bench.close()


# ------------------------------------------------------------------ one table, all contracts

MIXED = "Hello é🙂 日本"


@inside
@stock
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("prompt", "sampling", "text", "finish"),
    [
        ("Hello", {}, "Hello 1 2 3 4 5", "stop"),
        (MIXED, {}, f"{MIXED} 1 2 3 4 5", "stop"),
        ("日本語 chunk=3", {}, "日本語 1 2 3 4 5", "stop"),
        ("Hello final=empty", {}, "Hello 1 2 3 4 5", "stop"),
        ("Hello", {"max_tokens": 3}, "Hello 1 2", "length"),
        ("Hello", {"max_tokens": 3, "logprobs": False, "top_p": 1.0}, "Hello 1 2", "length"),
        ("Hello", {"temperature": 0.0, "seed": 1}, "Hello 1 2 3 4 5", "stop"),
        ("Hello", {"temperature": 0.7, "top_k": 5, "presence_penalty": 0.5}, "Hello 1 2 3 4 5", "stop"),
        ("Hello", {"seed": 2**64 - 1}, "Hello 1 2 3 4 5", "stop"),
        ("fault=nothing", {}, "", "stop"),
        ("huge=300000", {}, ("1 2 3 4 5 " * 30_000)[:300_000], "length"),
        ("x" * 200_000, {"max_tokens": 100_000}, "x" * 200_000 + " 1 2 3 4 5", "stop"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_the_same_requests_through_all_contracts(
    bench: Bench, version: Version, stream: bool, prompt: str, sampling: dict[str, Any], text: str, finish: str
) -> None:
    if len(prompt) > 1000 and stream:
        prompt += " chunk=8192"
    if "huge" in prompt:
        sampling = {"max_tokens": 100_000}
    ears = bench.ask(version, prompt, stream=stream, **sampling)
    result = await ears.result()
    assert ears.text == text
    assert result.finish == finish
    if version is NEWER:
        assert (result.prompt_tokens, result.completion_tokens) == (None, None)
    elif text:
        assert result.prompt_tokens
        assert result.completion_tokens
        if "max_tokens" in sampling and finish == "length" and "huge" not in prompt:
            assert result.completion_tokens == sampling["max_tokens"]


@inside
@stock
async def test_a_stream_comes_in_pieces_without_broken_characters(bench: Bench, version: Version) -> None:
    ears = bench.ask(version, MIXED)
    await ears.result()
    assert len(ears.chunks) > 5
    assert "\ufffd" not in ears.text


@inside
@stock
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["error", "traceback"])
async def test_a_failing_model(bench: Bench, version: Version, stream: bool, fault: str) -> None:
    ears = bench.ask(version, f"Hello fault={fault} after=2", stream=stream)
    error = await ears.error()
    assert type(error) is EngineError
    assert error.message == "The model failed; see the engine's log."
    assert "Hello 1 2 3".startswith(ears.text)
    if version is not ENSEMBLE:  # there, an error may overtake the text before it
        assert bool(ears.text) is stream


@inside
@stock
async def test_a_model_that_does_not_end_meets_the_deadline(bench: Bench, version: Version) -> None:
    job_id = f"deadline-{version.name}"
    # A BLS can't be ended from outside: it gets a plan that ends soon.
    prompt = "Hello count=30 pace=50" if version is BLS else "Hello fault=no-final"
    ears = bench.ask(version, prompt, job_id, timeout=1.0)
    assert isinstance(await ears.error(), EngineTimeout)
    assert ears.text.startswith("Hello 1 2 3")
    if version is not BLS:
        assert (await bench.event(version, "cancelled", job_id))["tokens"] > 0


@inside
@pytest.mark.parametrize("version", [ENSEMBLE, NEWER], ids=lambda version: version.name)
async def test_a_cancel_reaches_the_model(bench: Bench, version: Version) -> None:
    job_id = f"cancel-{version.name}"
    ears = bench.ask(version, "Hello count=2000 pace=20", job_id)
    await asyncio.wait_for(ears.first.wait(), LIMIT)
    assert ears.call is not None
    ears.call.cancel()
    ears.call.cancel()
    heard = len(ears.chunks)
    event = await bench.event(version, "cancelled", job_id)
    assert event["tokens"] < 2000
    if version is ENSEMBLE:  # which the gRPC cancel alone does not reach
        assert (await bench.event(version, "stop", job_id))["found"]
    assert (len(ears.chunks), ears.ends) == (heard, [])
    assert await bench.ask(version, "Hello").result()


@inside
async def test_a_cancelled_bls_says_nothing_more(bench: Bench) -> None:
    ears = bench.ask(BLS, "Hello count=30 pace=5", "cancel-bls")
    await asyncio.wait_for(ears.first.wait(), LIMIT)
    assert ears.call is not None
    ears.call.cancel()
    heard = len(ears.chunks)
    assert await bench.ask(BLS, "Hello").result(), "which waits for the one before"
    assert (len(ears.chunks), ears.ends) == (heard, [])


@inside
async def test_two_hundred_jobs_at_once_keep_apart(bench: Bench) -> None:
    versions = [ENSEMBLE, NEWER]
    jobs = [(versions[n % 2], f"request {n} é{n}🙂 count=20") for n in range(200)]
    asked = [(prompt, bench.ask(version, prompt)) for version, prompt in jobs]
    for prompt, ears in asked:
        assert (await ears.result()).finish == "stop"
        words = prompt.removesuffix(" count=20")
        assert ears.text == " ".join([words, *map(str, range(1, 21))])


@inside
@pytest.mark.parametrize("version", [ENSEMBLE, BLS], ids=lambda version: version.name)
@pytest.mark.parametrize("stream", [True, False])
async def test_logprobs_of_every_response(bench: Bench, version: Version, stream: bool) -> None:
    ears = bench.ask(version, "Hello", stream=stream, logprobs=True)
    result = await ears.result()
    entries = [entry for chunk in ears.chunks for entry in chunk.logprobs]
    assert len(entries) == result.completion_tokens
    assert "".join(entry.token for entry in entries) == ears.text
    assert {entry.logprob for entry in entries} == {-0.25}


@inside
@pytest.mark.parametrize("version", [ENSEMBLE, BLS], ids=lambda version: version.name)
async def test_stop_words_reach_the_model(bench: Bench, version: Version) -> None:
    ears = bench.ask(version, "abc def ghi", stop=(" de",))
    assert (await ears.result()).finish == "stop"
    assert ears.text == "abc de"


@inside
@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"repetition_penalty": 1.5}, "repetition_penalty"),
        ({"min_tokens": 2}, "min_tokens"),
        ({"guide": Guide("json_object")}, "response_format"),
    ],
)
async def test_what_a_contract_cannot_do_is_refused(bench: Bench, asked: dict[str, Any], param: str) -> None:
    ears = bench.ask(NEWER, "Hello", **asked)
    assert ears.ends == [], "nothing is heard inside call"
    error = await ears.error()
    assert isinstance(error, Unsupported)
    assert error.param == param
    assert "chat@newer" in error.message
    await bench.ask(ENSEMBLE, "Hello", **asked).result()


@inside
async def test_a_value_that_no_tensor_holds(bench: Bench) -> None:
    error = await bench.ask(ENSEMBLE, "Hello", top_k=2**40).error()
    assert isinstance(error, BadRequest)
    assert "top_k" in error.message


# ------------------------------------------------------------------ the server's life


@inside
async def test_versions_that_cannot_be_served(classic: Served) -> None:
    engine = TritonEngine(f"grpc://{classic.address}", interval=0.1)
    missing = Version(endpoint="chat", name="missing", model="nope")
    alien = Version(endpoint="chat", name="alien", model="preprocessing")
    assert engine.readiness(missing).reason == "the engine was not started"
    await engine.start([missing, alien, ENSEMBLE])
    await ready(engine, ENSEMBLE)
    assert "has no model 'nope'" in engine.readiness(missing).reason
    async with asyncio.timeout(LIMIT):
        while "speaks no contract of ours" not in engine.readiness(alien).reason:
            await asyncio.sleep(0.01)
    with pytest.raises(EngineUnavailable, match=r"chat@missing is not ready: Triton at .* has no model 'nope'"):
        ask(engine, missing, "Hello")
    with pytest.raises(EngineUnavailable, match="chat@newer is not among the versions of this engine"):
        ask(engine, NEWER, "Hello")
    assert "ready=True" in repr(engine)
    await engine.close()


@inside
async def test_triton_dies_in_mid_stream_and_comes_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_triton(LLMAPI, tmp_path_factory.mktemp("mortal")) as served:
        bench = Bench((served, [NEWER]))
        await bench.start()
        asked = [bench.ask(NEWER, f"Hello {n} count=5000 pace=20") for n in range(20)]
        for ears in asked:
            await asyncio.wait_for(ears.first.wait(), LIMIT)
        pid = served.triton.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for ears in asked:
            assert isinstance(await ears.error(), EngineUnavailable)
        engine = bench.engine(NEWER)
        async with asyncio.timeout(LIMIT):
            while engine.readiness(NEWER).ready:
                await asyncio.sleep(0.01)
        assert served.address in engine.readiness(NEWER).reason
        with pytest.raises(EngineUnavailable, match="chat@newer is not ready"):
            bench.ask(NEWER, "Hello")
        await ready(engine, NEWER)
        ears = bench.ask(NEWER, "Hello again")
        await ears.result()
        assert ears.text == "Hello again 1 2 3 4 5"
        await bench.close()


@inside
async def test_nobody_there() -> None:
    engine = TritonEngine("127.0.0.1:9", interval=0.1)
    await engine.start([ENSEMBLE])
    with pytest.raises(EngineUnavailable, match="chat@ensemble is not ready"):
        ask(engine, ENSEMBLE, "Hello")
    async with asyncio.timeout(LIMIT):
        while "cannot be reached" not in engine.readiness(ENSEMBLE).reason:
            await asyncio.sleep(0.01)
    await engine.close()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("localhost:8001", ("localhost", 8001)),
        ("grpc://triton.example:8001", ("triton.example", 8001)),
        ("grpc://triton.example:8001/", ("triton.example", 8001)),
        ("[::1]:8001", ("::1", 8001)),
    ],
)
def test_urls(url: str, place: tuple[str, int]) -> None:
    assert parse_url(url) == place


@pytest.mark.parametrize(
    "url", ["", "localhost", "localhost:", ":8001", "::1:8001", "host:0", "host:65536", "host:x", "http://host:8000",
            "grpcs://host:8001", "https://host:443"],
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_url(url)


# ------------------------------------------------------------------ the embedded assistant

COUNT = "<s><|user|>Count from 1 to 300.</s><|assistant|>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def assistant(assistant: Served) -> AsyncIterator[Bench]:
    bench = Bench((assistant, [ASSISTANT]))
    await bench.start()
    yield bench
    await bench.close()


@inside
async def test_the_assistant_streams_what_it_says_at_once(assistant: Bench) -> None:
    readiness = assistant.engine(ASSISTANT).readiness(ASSISTANT)
    assert readiness.contract == "penstock"
    streamed = assistant.ask(ASSISTANT, COUNT, max_tokens=64, temperature=0.0)
    whole = assistant.ask(ASSISTANT, COUNT, max_tokens=64, temperature=0.0, stream=False)
    result = await streamed.result()
    assert result == await whole.result()
    assert streamed.text == whole.text
    assert len(whole.chunks) == 1
    assert len(streamed.chunks) > 1
    assert result.prompt_tokens
    assert result.completion_tokens
    assert result.finish == ("length" if result.completion_tokens == 64 else "stop")


@inside
async def test_the_assistant_is_seeded(assistant: Bench) -> None:
    asked = [assistant.ask(ASSISTANT, COUNT, max_tokens=32, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    for ears in asked:
        await ears.result()
    one, again, other = (ears.text for ears in asked)
    assert one == again != other


@inside
async def test_the_assistants_logprobs_are_per_token(assistant: Bench) -> None:
    ears = assistant.ask(ASSISTANT, COUNT, max_tokens=24, temperature=0.0, logprobs=True, stream=False)
    result = await ears.result()
    entries = [entry for chunk in ears.chunks for entry in chunk.logprobs]
    assert len(entries) == result.completion_tokens
    assert all(entry.logprob <= 0 for entry in entries)
    assert "".join(entry.token for entry in entries).strip().startswith(ears.text.strip()[:10])


@inside
async def test_a_cancel_reaches_the_assistant(assistant: Bench) -> None:
    ears = assistant.ask(ASSISTANT, COUNT, "cancel-assistant", max_tokens=1500, min_tokens=1500)
    await asyncio.wait_for(ears.first.wait(), LIMIT)
    assert ears.call is not None
    ears.call.cancel()
    await assistant.event(ASSISTANT, "cancelled", "cancel-assistant")
    assert ears.ends == []


@inside
@pytest.mark.parametrize(
    ("prompt", "options", "code", "says"),
    [
        ("word " * 4000, {}, "context_length_exceeded", "context"),
        (COUNT, {"temperature": 3.0}, "invalid_request", "temperature is 3"),
        (COUNT, {"max_tokens": -5}, "invalid_request", "max_tokens is -5"),
        (COUNT, {"guide": Guide("json_schema", "{nonsense")}, "invalid_request", "guided_decoding_guide"),
        ("", {}, "invalid_request", "text_input is empty"),
    ],
    ids=["too long", "temperature", "max_tokens", "guide", "empty"],
)
async def test_what_the_assistant_refuses(
    assistant: Bench, prompt: str, options: dict[str, Any], code: str, says: str
) -> None:
    error = await assistant.ask(ASSISTANT, prompt, **options).error()
    assert isinstance(error, BadRequest)
    assert error.code == code
    assert says in error.message
