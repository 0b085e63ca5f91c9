"""The scripted engine keeps the rules of every engine."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.answer import TokenLogprob
from gateway.core.errors import EngineError, EngineUnavailable, PenstockError
from gateway.core.request import Sampling
from gateway.engines.base import Engine, Job, Result
from gateway.engines.scripted import HOLD, ScriptedEngine
from gateway.routing.version import Version

VERSION = Version(endpoint="chat", name="v1", model="m")


class Ears:
    def __init__(self) -> None:
        self.heard: list[str | Result | PenstockError] = []

    def on_chunk(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.heard.append(text)

    def on_finish(self, result: Result) -> None:
        self.heard.append(result)

    def on_error(self, error: PenstockError) -> None:
        self.heard.append(error)


def a_job(prompt: str = "to be") -> Job:
    return Job("job-1", prompt, Sampling(), None, True)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_it_is_an_engine() -> None:
    engine: Engine = ScriptedEngine()
    await engine.start([VERSION])
    assert engine.readiness(VERSION).ready
    await engine.close()


@pytest.mark.asyncio
async def test_nothing_is_heard_inside_call() -> None:
    engine, ears = ScriptedEngine(("a", "b")), Ears()
    engine.call(VERSION, a_job(), ears)
    assert ears.heard == []
    await turns()
    assert ears.heard == ["a", "b", Result("stop", 2, 2)]


@pytest.mark.asyncio
async def test_answers_by_function_and_by_table() -> None:
    ears = Ears()
    ScriptedEngine(lambda version, job: (version.label, job.prompt)).call(VERSION, a_job(), ears)
    await turns()
    assert ears.heard[:2] == ["chat@v1", "to be"]
    engine, ears = ScriptedEngine({"to be": ("or not",)}), Ears()
    engine.call(VERSION, a_job(), ears)
    await turns()
    assert ears.heard[0] == "or not"
    with pytest.raises(LookupError, match="no answer to the prompt 'else'"):
        engine.call(VERSION, a_job("else"), ears)


@pytest.mark.asyncio
async def test_a_test_stands_between_two_chunks() -> None:
    engine, ears = ScriptedEngine(("a", HOLD, "b", Result("length", 1, 2))), Ears()
    call = engine.call(VERSION, a_job(), ears)
    await turns()
    assert ears.heard == ["a"]
    assert call.held
    assert call.counts() == (2, 1)
    call.release()
    await turns()
    assert ears.heard == ["a", "b", Result("length", 1, 2)]
    assert repr(call) == "<ScriptedCall job-1 ended, 0 steps left>"


@pytest.mark.asyncio
async def test_nothing_is_heard_after_cancel() -> None:
    engine, ears = ScriptedEngine(("a", HOLD, "b")), Ears()
    call = engine.call(VERSION, a_job(), ears)
    await turns()
    call.cancel()
    call.release()
    await turns()
    assert ears.heard == ["a"]
    assert engine.calls == [call]
    assert call.cancelled


@pytest.mark.asyncio
async def test_errors_and_versions_that_are_not_ready() -> None:
    error = EngineError("boom")
    engine, ears = ScriptedEngine(("a", error, "never")), Ears()
    call = engine.call(VERSION, a_job(), ears)
    await turns()
    assert ears.heard == ["a", error]
    call.cancel()
    assert not call.cancelled
    engine.not_ready["chat@v1"] = "it sleeps"
    assert engine.readiness(VERSION).reason == "it sleeps"
    with pytest.raises(EngineUnavailable, match="chat@v1 is not ready: it sleeps"):
        engine.call(VERSION, a_job(), ears)
