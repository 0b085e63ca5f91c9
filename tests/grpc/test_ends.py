"""How a call may end but by its answer: cancel, deadline, a lost connection, a slow reader, our own shutdown."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import pytest

from gateway.engines.scripted import HOLD
from penstock.v1 import inference_pb2_grpc
from tests.grpc.serving import GrpcGateway, chat, refusal_of
from tests.inprocess import WAIT_S

SCRIPTS: dict[str, Any] = {"wait": ("one", HOLD, "two"), "mute": (HOLD,), "much": ("one", HOLD, *["x" * 10_000] * 200)}


def script(_: Any, job: Any) -> Any:
    return SCRIPTS.get(job.prompt, ("a",))


def begun(gateway: GrpcGateway, prompt: str = "wait") -> Any:
    """A stream that has said "one" and waits."""
    call = gateway.stream(chat(prompt))
    assert next(call).WhichOneof("event") == "started"
    assert next(call).delta.text == "one"
    gateway.held()
    return call


def test_a_cancelled_stream() -> None:
    with GrpcGateway(script) as one:
        begun(one).cancel()
        job = one.call()
        one.until(lambda: job.cancelled)
        record = one.record
        assert (record.outcome, record.failure, record.choices[0].text) == ("cancelled", None, "one")
        assert record.completion_tokens == 1


def test_a_cancelled_unary_call() -> None:
    with GrpcGateway(script) as one:
        call = one.stub.Generate.future(chat("mute"))
        job = one.held()
        call.cancel()
        one.until(lambda: job.cancelled)
        assert one.record.outcome == "cancelled"


def test_a_closed_channel() -> None:
    with GrpcGateway(script) as one:
        channel = grpc.insecure_channel(f"127.0.0.1:{one.face.port}", options=[("grpc.use_local_subchannel_pool", 1)])
        call = inference_pb2_grpc.InferenceStub(channel).GenerateStream(chat("mute"))
        job = one.held()
        channel.close()
        with pytest.raises(grpc.RpcError):
            next(call)
        one.until(lambda: job.cancelled)
        assert one.record.outcome == "cancelled"  # gRPC tells no difference


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_reaches_the_engine(stream: bool) -> None:
    with GrpcGateway(script) as one:
        asked = chat("mute")
        with pytest.raises(grpc.RpcError) as late:
            list(one.stream(asked, timeout=0.5)) if stream else one.generate(asked, timeout=0.5)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        job = one.call()
        one.until(lambda: job.cancelled)
        assert 0 < job.job.timeout <= 0.5
        record = one.record
        assert (record.outcome, record.failure.code) == ("failed", "timeout")


def test_no_deadline_is_the_gateways_own() -> None:
    with GrpcGateway(script, request_timeout_s=77.0) as one:
        one.stub.Generate(chat("hi"))
        assert one.call().job.timeout == 77.0


def test_the_gateways_own_deadline_is_told() -> None:
    with GrpcGateway(script, request_timeout_s=0.05) as one:
        with pytest.raises(grpc.RpcError) as late:
            one.stub.Generate(chat("mute"))
        refusal = refusal_of(late.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TIMEOUT")


def test_a_slow_reader_loses_its_stream_and_nobody_elses() -> None:
    with GrpcGateway(script, client_buffer_bytes=50_000) as one:
        call = begun(one, "much")
        job = one.call()
        one.release(job)  # and nobody reads
        one.until(lambda: job.cancelled)
        record = one.record
        assert record.outcome == "abandoned"
        assert 50_000 < len(record.choices[0].text) < 200 * 10_000
        assert one.generate(chat("hi")).choices[0].text == "a"
        with pytest.raises(grpc.RpcError) as slow:  # what was on its way arrives, then the reason
            list(call)
        refusal = refusal_of(slow.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT_TOO_SLOW")
        assert refusal.trailing["x-penstock-version"] == "assistant@v1"


def ask_for_ever(stub: inference_pb2_grpc.InferenceStub) -> None:
    while True:
        stub.Generate(chat("hi"), timeout=WAIT_S)


def close(gateway: GrpcGateway, grace_s: float) -> threading.Thread:
    """Begin to close the face; when it has ended the thread has."""
    thread = threading.Thread(target=lambda: gateway.on_loop(lambda: gateway.face.close(grace_s)))
    thread.start()
    return thread


def test_a_drain_lets_calls_finish_and_takes_no_more() -> None:
    with GrpcGateway(script) as one:
        call = begun(one)
        closing = close(one, WAIT_S)
        with grpc.insecure_channel(f"127.0.0.1:{one.face.port}", [("grpc.use_local_subchannel_pool", 1)]) as late:
            stub = inference_pb2_grpc.InferenceStub(late)
            with pytest.raises(grpc.RpcError) as refused:
                ask_for_ever(stub)  # the first of these may come before the port is closed
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert closing.is_alive()
        one.release(one.call(0))
        assert [event.WhichOneof("event") for event in call] == ["delta", "finished", "ended"]
        closing.join(WAIT_S)
        assert not closing.is_alive()
        assert one.records[0].outcome == "finished"


def test_a_drain_ends_what_does_not_finish() -> None:
    with GrpcGateway(script) as one:
        call = begun(one)
        closing = close(one, 0.05)
        with pytest.raises(grpc.RpcError) as ended:
            list(call)
        refusal = refusal_of(ended.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert refusal.retry_after is not None
        closing.join(WAIT_S)
        assert one.call().cancelled
        record = one.record
        assert (record.outcome, record.failure.code) == ("failed", "shutting_down")
