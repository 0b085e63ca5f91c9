"""One job's life, without a network: what the listener hears, and what the gRPC call is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from gateway.core.answer import TokenLogprob
from gateway.core.errors import Cancelled, EngineError, EngineTimeout, EngineUnavailable, PenstockError
from gateway.core.request import Sampling
from gateway.engines.base import Job, Readiness, Result
from gateway.engines.contracts.registry import bind
from gateway.engines.scripted import Chunk
from gateway.engines.tokenizer import TokenCounter
from gateway.engines.triton_call import TritonCall
from gateway.engines.triton_interface import ModelInterface, TensorSpec
from gateway.engines.triton_models import Served
from gateway.routing.version import Version

VERSION = Version(endpoint="chat", name="v1", model="m")


class Ears:
    """A listener that keeps what it heard; `then` runs inside each on_chunk."""

    def __init__(self) -> None:
        self.heard: list[Chunk | Result | PenstockError] = []
        self.then: Any = lambda: None

    def on_chunk(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.heard.append(Chunk(text, logprobs))
        self.then()

    def on_finish(self, result: Result) -> None:
        self.heard.append(result)

    def on_error(self, error: PenstockError) -> None:
        self.heard.append(error)


class Upstream:
    """The gRPC call."""

    def __init__(self) -> None:
        self.cancels = 0

    def cancel(self) -> None:
        self.cancels += 1


class Owner:
    where = "host:8001"

    def __init__(self) -> None:
        self.stops: list[bytes] = []
        self.suspected = 0

    def send_stop(self, message: bytes) -> None:
        self.stops.append(message)

    def suspect(self) -> None:
        self.suspected += 1


class Scene:
    """A call between a fake engine and a fake listener, on a minimal ensemble with a tensorrt_llm that stops."""

    def __init__(self, counter: Any = None) -> None:
        one = lambda dtype: TensorSpec(dtype, (1,))  # noqa: E731
        model = ModelInterface(
            "m", "", {"text_input": one("BYTES"), "max_tokens": one("INT32")}, {"text_output": one("BYTES")}
        )
        engine = ModelInterface(
            "tensorrt_llm",
            "",
            {name: one("INT32") for name in ("input_ids", "input_lengths", "request_output_len")}
            | {"stop": one("BOOL")},
            {},
            max_batch_size=4,
        )
        binding = bind(model, VERSION, {"tensorrt_llm": engine})
        served = Served(VERSION, binding, model, {}, counter, Readiness(True, ""))
        job = Job("job-1", "Hi there", Sampling(max_tokens=4), None, True)
        self.ears, self.upstream, self.owner = Ears(), Upstream(), Owner()
        self.call = TritonCall(self.owner, served, job, self.ears)
        self.call.read_with(binding.reader(job))
        self.call.begin(self.upstream)

    def say(self, text: str | None = None, *, final: bool = False, error: str = "") -> None:
        message = pb.ModelStreamInferResponse(error_message=error)
        message.infer_response.id = "job-1"
        message.infer_response.parameters["triton_final_response"].bool_param = final
        if text is not None:
            message.infer_response.outputs.add(name="text_output", datatype="BYTES", shape=[1])
            message.infer_response.raw_output_contents.append(len(text.encode()).to_bytes(4, "little") + text.encode())
        self.call.on_message(message.SerializeToString())

    @property
    def error(self) -> PenstockError:
        [error] = [heard for heard in self.ears.heard if isinstance(heard, PenstockError)]
        assert self.ears.heard[-1] is error
        return error


def test_a_plain_answer() -> None:
    scene = Scene()
    scene.say("Hello")
    scene.say(" you", final=True)
    assert scene.ears.heard == [Chunk("Hello"), Chunk(" you"), Result("stop", None, None)]
    scene.call.on_close(0, "")
    assert len(scene.ears.heard) == 3
    assert scene.upstream.cancels == 0, "a finished call is drained, not broken off"


def test_a_final_flag_alone() -> None:
    scene = Scene()
    scene.say("Hello")
    scene.say(final=True)
    assert scene.ears.heard == [Chunk("Hello"), Result("stop", None, None)]


def test_the_finish_is_told_with_the_flag_not_with_the_end_of_the_call() -> None:
    scene = Scene()
    scene.say(final=True)
    assert scene.ears.heard == [Result("stop", None, None)]
    scene.say("late")
    scene.call.cancel()
    scene.call.on_close(13, "")
    assert len(scene.ears.heard) == 1
    assert scene.upstream.cancels == 0
    assert scene.owner.stops == []


def test_an_error_message_is_final_and_the_call_is_drained() -> None:
    scene = Scene()
    scene.say("Hel")
    scene.say(error="Request for unknown model: 'm' is not found")
    assert isinstance(scene.error, EngineUnavailable)
    assert scene.owner.suspected == 1
    scene.call.on_close(0, "")
    scene.call.cancel()
    assert len(scene.ears.heard) == 2
    assert scene.upstream.cancels == 0


def test_a_traceback_goes_to_the_log_and_no_further(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    with caplog.at_level(logging.WARNING):
        scene.say(error="Traceback (most recent call last):\n  secret")
    assert scene.error.message == "The model failed; see the engine's log."
    assert "secret" in caplog.text


def test_cancel_breaks_the_call_off_and_asks_the_engine_to_stop() -> None:
    scene = Scene()
    scene.say("Hel")
    scene.call.cancel()
    scene.call.cancel()
    assert scene.upstream.cancels == 1
    [stop] = scene.owner.stops
    assert pb.ModelInferRequest.FromString(stop).id == "job-1"
    scene.say("lo", final=True)
    scene.call.on_close(1, "")
    assert scene.ears.heard == [Chunk("Hel")]


def test_cancel_from_within_a_chunk() -> None:
    scene = Scene()
    scene.ears.then = scene.call.cancel
    scene.say("Hello", final=True)
    assert scene.ears.heard == [Chunk("Hello")]


@pytest.mark.parametrize(
    ("status", "error"),
    [(0, EngineError), (1, Cancelled), (4, EngineTimeout), (13, EngineError), (14, EngineUnavailable)],
)
def test_the_end_of_the_call_before_the_end_of_the_answer(status: int, error: type[PenstockError]) -> None:
    scene = Scene()
    scene.say("Hel")
    scene.call.on_close(status, "detail")
    assert type(scene.error) is error
    scene.call.cancel()
    assert len(scene.owner.stops) == (status in (1, 4)), "the engine may still be at it"


def test_unreadable_bytes_end_the_job(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    with caplog.at_level(logging.WARNING):
        scene.call.on_message(b"\x12\xff")
    assert scene.error.message == "The engine's answer could not be read."
    assert scene.upstream.cancels == 1
    assert "job-1" in caplog.text
    scene.say("late")
    assert len(scene.ears.heard) == 1


def test_a_failure_that_is_told_later_is_not_told_after_a_cancel() -> None:
    scene = Scene()
    scene.call.cancel()
    scene.call.fail(EngineError("x"))
    assert scene.ears.heard == []


class Words:
    """Stands in for a tokenizer: a token is a word; the engine adds one to the prompt."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        self.calls += 1

        class Encoded:
            ids = ["<s>"] * add_special_tokens + text.split()

        return Encoded()


async def counted(scene: Scene) -> None:
    """Wait for the count, which runs in a thread."""
    counting = scene.call._counting
    assert counting is not None
    await asyncio.wait([counting])
    await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_the_gateway_counts_where_the_model_does_not() -> None:
    scene = Scene(TokenCounter(Words(), "test"))
    scene.say("one two")
    assert scene.call.counts() == (3, 2)
    scene.say(" three four", final=True)
    assert scene.ears.heard[2:] == []
    scene.call.on_close(0, "")
    await counted(scene)
    assert scene.ears.heard[2:] == [Result("length", 3, 4)]


@pytest.mark.asyncio
async def test_a_cancel_while_tokens_are_counted() -> None:
    scene = Scene(TokenCounter(Words(), "test"))
    scene.say("one", final=True)
    scene.call.cancel()
    await counted(scene)
    assert scene.ears.heard == [Chunk("one")]
    assert scene.upstream.cancels == 0


@pytest.mark.asyncio
async def test_a_count_that_fails_leaves_the_answer_whole(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(TokenCounter(object(), "test"))
    scene.say("one", final=True)
    await counted(scene)
    assert scene.ears.heard == [Chunk("one"), Result("stop", None, None)]
    assert "counting tokens failed" in caplog.text
