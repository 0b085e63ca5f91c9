"""The imitations keep the stock contracts' promises and their warts; other tests lean on both."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2

from tests.triton_client import Client, Response, responses
from tests.triton_server import ROOT, Served

sys.path.insert(0, str(ROOT / "tests"))

from imitations.tokens import decode, encode

pytestmark = pytest.mark.asyncio
TEXT = "alpha 日本 🙂"
REPLY = "alpha 日本 🙂 1 2 3 4 5"
STREAM = {"stream": True, "exclude_input_in_output": True, "max_tokens": 100}


@pytest_asyncio.fixture
async def ensemble(classic: Served) -> AsyncIterator[Client]:
    async with Client(classic.address) as client:
        yield client


@pytest_asyncio.fixture
async def newer(llmapi: Served) -> AsyncIterator[Client]:
    async with Client(llmapi.address, batched=False) as client:
        yield client


async def test_ensemble_streams_a_token_a_response_and_halves_characters(ensemble: Client) -> None:
    answer = await ensemble.infer("ensemble", {"text_input": TEXT, **STREAM})
    assert answer.text == REPLY
    assert [response.raw_text for response in answer.responses] == [decode([token]) for token in encode(REPLY)]
    assert any(isinstance(text, bytes) for text in answer.joined("text_output")), "bytes that are no UTF-8"
    assert set(answer.joined("num_output_tokens")) == {1}
    assert answer.joined("num_input_tokens") == [len(encode(TEXT))] * len(answer.responses)
    assert answer.finish is None
    assert answer.responses[0].shapes["text_output"] == (1,)
    assert answer.responses[0].shapes["num_output_tokens"] == (1, 1)


async def test_ensemble_echoes_the_prompt_unless_told(ensemble: Client) -> None:
    for stream in (False, True):
        answer = await ensemble.infer("ensemble", {"text_input": TEXT, "max_tokens": 100, "stream": stream})
        assert answer.text == TEXT + REPLY


async def test_ensemble_stops_at_max_tokens(ensemble: Client) -> None:
    answer = await ensemble.infer("ensemble", {"text_input": "count=100", **STREAM, "max_tokens": 7})
    assert answer.total("num_output_tokens") == 7


async def test_stop_words_match_tokens_not_text(ensemble: Client) -> None:
    inputs = {"text_input": "abcdef", **STREAM}
    aligned = await ensemble.infer("ensemble", {**inputs, "stop_words": ["zz", "def"]})
    missed = await ensemble.infer("ensemble", {**inputs, "stop_words": ["cde"]})
    assert (aligned.text, missed.text) == ("abcdef", "abcdef 1 2 3 4 5")


@pytest.mark.parametrize(
    ("words", "texts", "error"),
    [
        ("fault=error", 0, "Encountered an error"),
        ("fault=error after=2 pace=50", 2, "Encountered an error"),
        ("fault=traceback after=2 pace=50", 2, "secret-internal-detail"),
        ("fault=nothing", 0, ""),
    ],
)
async def test_faults(ensemble: Client, words: str, texts: int, error: str) -> None:
    for model in ("ensemble", "tensorrt_llm_bls"):
        answer = await ensemble.infer(model, {"text_input": f"abcdef {words}", **STREAM})
        got = len([response for response in answer.responses if response.raw_text])
        # In an ensemble an error may overtake a response that is still in postprocessing.
        assert got == texts or (model == "ensemble" and got < texts)
        assert error in answer.error
        assert bool(answer.error) == bool(error)
        assert answer.responses[-1].final
        if model == "tensorrt_llm_bls" and error:
            assert "Traceback (most recent call last)" in answer.error


async def test_a_request_without_a_final_flag_never_ends(ensemble: Client) -> None:
    call = ensemble.call("ensemble", {"text_input": "abc fault=no-final", **STREAM})
    got: list[Response] = []
    async for response in responses(call):
        got.append(response)
        if b"".join(one.raw_text for one in got) == b"abc 1 2 3 4 5":
            break
    assert not any(response.final for response in got)
    call.cancel()


async def test_huge_answers(ensemble: Client) -> None:
    answer = await ensemble.infer("ensemble", {"text_input": "huge=200000", **STREAM, "max_tokens": 10**6})
    assert len(answer.text) == 200000


async def test_ensemble_is_ended_by_stop_not_by_cancel(classic: Served, ensemble: Client) -> None:
    inputs = {"text_input": "count=5000 pace=20", **STREAM, "max_tokens": 10**5}
    call = ensemble.call("ensemble", inputs, request_id="to-stop")
    stream = responses(call)
    await anext(stream)
    request = ensemble.request(
        "tensorrt_llm", {"input_lengths": 1, "request_output_len": 1, "stop": True}, request_id="to-stop"
    )

    async def one() -> AsyncIterator[Any]:
        yield request

    reply = [response async for response in responses(ensemble.stub.ModelStreamInfer(one()))]
    assert [(response.final, response.error, response.outputs) for response in reply] == [(True, "", {})]
    rest = [response async for response in stream]
    assert rest[-1].final
    assert classic.events.read("to-stop")[-1]["event"] == "cancelled"

    call = ensemble.call("ensemble", {**inputs, "text_input": "count=20 pace=20"}, request_id="to-cancel")
    await call.read()
    call.cancel()
    seen = await asyncio.to_thread(classic.events.wait_for, "finished", "to-cancel")
    assert seen["how"] == "stop", "Triton's ensemble doesn't pass a cancel on"


async def test_bls_text_is_cumulative(ensemble: Client) -> None:
    answer = await ensemble.infer("tensorrt_llm_bls", {"text_input": "abc def", **STREAM})
    texts = [response.raw_text for response in answer.responses]
    assert texts[:-1] == [b"abc def 1 2 3 4 5"[:end] for end in (3, 6, 9, 12, 15, 17)]
    assert (texts[-1], answer.responses[-1].final) == (b"", True), "the final flag comes alone"
    assert answer.total("num_output_tokens") == 6


async def test_llmapi_text_is_cumulative_and_names_its_end(newer: Client) -> None:
    inputs = {
        "text_input": TEXT,
        "streaming": True,
        "sampling_param_exclude_input_from_output": True,
        "return_finish_reason": True,
    }
    answer = await newer.infer("tensorrt_llm", inputs)
    texts = [response.raw_text.decode() for response in answer.responses]
    assert texts[-1] == REPLY
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    reasons = answer.joined("finish_reason")
    assert (set(reasons[:-1]), reasons[-1]) == ({"None"}, "stop")
    assert set(answer.responses[0].outputs) == {"text_output", "finish_reason"}
    assert answer.responses[0].shapes["text_output"] == (1,)


async def test_llmapi_defaults(newer: Client) -> None:
    answer = await newer.infer("tensorrt_llm", {"text_input": "count=100", "return_finish_reason": True})
    assert answer.text.startswith("count=1001 2 3"), "the prompt is echoed"
    assert len(encode(answer.text.removeprefix("count=100"))) == 32, "max_tokens"
    assert answer.finish == "length"


async def test_llmapi_errors(newer: Client) -> None:
    answer = await newer.infer("tensorrt_llm", {"text_input": "fault=error after=2", "streaming": True})
    assert [bool(response.error) for response in answer.responses] == [False, False, True]
    assert answer.error.startswith("Error generating request: ")
    bad = await newer.infer("tensorrt_llm", {"text_input": "x", "undeclared": "y"})
    assert "undeclared" in bad.error
    assert not bad.responses[0].final, "an error before execution has no final flag"


async def test_llmapi_sees_a_cancel(llmapi: Served, newer: Client) -> None:
    call = newer.call("tensorrt_llm", {"text_input": "fault=hang", "streaming": True}, request_id="gone")
    await asyncio.to_thread(llmapi.events.wait_for, "started", "gone")
    call.cancel()
    assert (await asyncio.to_thread(llmapi.events.wait_for, "cancelled", "gone"))["tokens"] == 0


async def test_decoupled_models_refuse_a_unary_call(newer: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await newer.stub.ModelInfer(newer.request("tensorrt_llm", {"text_input": "x"}))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    ready = await newer.stub.ModelReady(service_pb2.ModelReadyRequest(name="tensorrt_llm"))
    assert ready.ready
