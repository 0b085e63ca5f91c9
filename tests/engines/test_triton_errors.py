"""What Triton and its models say, against what a caller is told."""

from __future__ import annotations

import pytest

from gateway.core.errors import (
    BadRequest,
    Cancelled,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    Overloaded,
    PenstockError,
)
from gateway.engines.triton_errors import of_message, of_status

BLS_TRACEBACK = """Traceback (most recent call last):
  File "/models/tensorrt_llm_bls/1/model.py", line 108, in execute
    for res in res_gen:
  File "/models/tensorrt_llm_bls/1/lib/decode.py", line 219, in decode
    raise ValueError(f"{max_input_len} must be secret")
c_python_backend_utils.TritonModelException: %s
"""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        # Triton's core
        ("Exceeds maximum queue size", Overloaded),
        ("[request id: 7] Exceeds maximum queue size", Overloaded),
        ("Request timeout expired", EngineTimeout),
        ("Request for unknown model: 'x' is not found", EngineUnavailable),
        ("Request for unknown model: 'x' has no available versions", EngineUnavailable),
        ("Request for unknown model: 'x' version 3 is not at ready state", EngineUnavailable),
        ("[request id: 7] unexpected inference input 'top_q' for model 'ensemble'", EngineError),
        ("[request id: 7] unexpected shape for input 'top_k' for model 'm'. Expected [-1,1], got [1]", EngineError),
        ("[request id: 7] expected 3 inputs but got 2 inputs for model 'm'", EngineError),
        ("Stub process 'assistant_0_0' is not healthy.", EngineUnavailable),
        # TensorRT-LLM
        ("Prompt length (8000) exceeds maximum input length (4096). Set log level to info", BadRequest),
        ("[TensorRT-LLM][ERROR] Assertion failed: prompt length > max_input_len (/src/tllm/x.cpp:120)", BadRequest),
        (
            "Error generating request: The sum of prompt length (5) and max_tokens should not exceed max_seq_len",
            BadRequest,
        ),
        ("Error generating request: require temperature >= 0, got temperature=-1", BadRequest),
        ("[TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc: out of memory (/src/x.cpp:12)", EngineError),
        ("Encountered an error in forwardAsync function: an illegal memory access was encountered", EngineError),
        ("Request cancelled by client", EngineError),
        (BLS_TRACEBACK % "something broke", EngineError),
        (BLS_TRACEBACK % "Prompt length (8) exceeds maximum input length (5)", BadRequest),
        (BLS_TRACEBACK % "Request for unknown model: 'tensorrt_llm' is not found", EngineError),
        # ours
        ("text_input is empty", BadRequest),
        ("temperature is 3; it must be between 0 and 2", BadRequest),
        ("stop_words has 99 entries; 64 are allowed", BadRequest),
        ("guided_decoding_guide is refused: bad regex", BadRequest),
        ("the request needs more KV cache than there is", Overloaded),
        ("the engine could not take the request", EngineError),
        ("max_tokens must be at least 1, not -5", BadRequest),
        ("the prompt is 5000 tokens long, the context length is 4096", BadRequest),
        ("guided_decoding_guide is not a valid JSON schema: expected '{'", BadRequest),
        # nothing to go by
        ("", EngineError),
        ("boom", EngineError),
    ],
)
def test_messages(text: str, error: type[PenstockError]) -> None:
    told = of_message(text, "m")
    assert type(told) is error
    for inside in ("Traceback", "File", ".py", ".cpp", "secret", "0x", "/src", "[request id"):
        assert inside not in told.message


def test_a_refused_value_is_shown_by_its_first_line() -> None:
    told = of_message("in ensemble 'e', [request id: 7] top_p must be in (0, 1], not 7\nsecond line", "m")
    assert told.message == "The model 'm' refused the request: top_p must be in (0, 1], not 7"
    assert len(of_message("invalid " + "x" * 5000, "m").message) < 400


def test_too_long_has_openais_code() -> None:
    told = of_message("Prompt length (8000) exceeds maximum input length (4096)", "m")
    assert told.code == "context_length_exceeded"
    assert told.message == "The model 'm' refused the request: Prompt length (8000) exceeds maximum input length (4096)"
    told = of_message(BLS_TRACEBACK % "Prompt length (8) exceeds maximum input length (5)", "m")
    assert "shorten" in told.message


@pytest.mark.parametrize(
    ("status", "error"),
    [(0, EngineError), (1, Cancelled), (2, EngineError), (4, EngineTimeout), (8, Overloaded), (12, EngineError),
     (13, EngineError), (14, EngineUnavailable)],
)  # fmt: skip
def test_statuses(status: int, error: type[PenstockError]) -> None:
    told = of_status(status, "secret /src/x.cpp", "host:8001")
    assert type(told) is error
    assert "secret" not in told.message


def test_the_end_without_a_last_message() -> None:
    assert "stream ended early" in of_status(0, "", "host:8001").message
