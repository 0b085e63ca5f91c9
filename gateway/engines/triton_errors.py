"""From what a Triton server says to the error tree.

A model's error comes as text alone: the status code stays on the server (unless one asks for it with
`triton_grpc_error`, which crashed Triton 2.51). So it is told apart by its words. The rules, in order:

1. a prompt or an answer too long for the model is the caller's error (of a traceback only the last line
   counts: the rest quotes source code);
2. a full queue, an expired timeout and an unavailable model have fixed words in Triton's core;
3. text with a sign of the inside (traceback, source file, CUDA, assertion) is for the log alone;
4. a complaint about a value is the caller's error;
5. all else is the engine's failure.

Of the model's own words, only those of rules 1 and 4 are shown, and only the first line, and none with a
sign of the inside.
"""

from __future__ import annotations

import re

from gateway.core.errors import (
    BadRequest,
    Cancelled,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    Overloaded,
    PenstockError,
)

FAILED = "The model failed; see the engine's log."
ENDED_EARLY = "The stream ended early: the engine sent no last message."

_SHOWN = 300  # characters of a model's own message that a caller sees

_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|context is \d+|max(imum)?[ _](input|sequence|seq|context|prompt)[ _]?len"
    r"|(prompt|input)[ _](length|tokens?)\b.*\b(exceed|longer|too long|greater)|prompt (is )?too long"
    r"|max_(seq_len|num_tokens|position_embeddings)",
    re.IGNORECASE | re.DOTALL,
)
_QUEUE_FULL = re.compile(
    r"exceeds maximum queue size|queue is full|too many requests|more kv cache than", re.IGNORECASE
)
_TIMEOUT = re.compile(r"request timeout expired|deadline exceeded|timed? ?out", re.IGNORECASE)
_UNAVAILABLE = re.compile(
    r"unknown model|no available versions|not (at )?ready|not found|is unavailable|unloaded"
    r"|server is (stopping|exiting)|stub process|shutdown has been requested",
    re.IGNORECASE,
)
_INSIDE = re.compile(
    r"traceback|\bfile \"|\.(py|cpp|cc|cu|h|so)\b|cuda|cublas|nccl|assert|out of memory|segmentation"
    r"|0x[0-9a-f]{6}|unexpected (inference|shape|datatype|explicit)|expected \d+ inputs|\bexception\b"
    r"|/\w+/\w+/|object has no attribute|internal",
    re.IGNORECASE,
)
_BAD_VALUE = re.compile(
    r"\b(invalid|must(n't)?|should|expected|expects|require[sd]?|out of range|not allowed|negative|positive"
    r"|unsupported|not (a )?(supported|valid|string)|cannot be|can't be|at (least|most)|between|malformed"
    r"|unknown|known are|missing|refused|(is|are) allowed|(is|are) empty|given without|(more|less) than"
    r"|too (long|large|big|small|many|few|short|high|low)|carries one)\b",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^(\[request id: [^\]]*\]|error generating request:|in ensemble '[^']*',|\s|:)+", re.IGNORECASE)
_CANCELLED = re.compile(r"cancel", re.IGNORECASE)


def of_message(text: str, model: str) -> PenstockError:
    """The error of a response's `error_message`. Never carries a traceback."""
    traceback = "traceback" in text.lower()
    if _TOO_LONG.search(text.strip().rpartition("\n")[2] if traceback else text):
        what = "The prompt is too long: shorten it, or ask for a smaller max_tokens."
        if _INSIDE.search(text) is None:
            what = _first_line(text)
        return BadRequest(f"The model '{model}' refused the request: {what}", code="context_length_exceeded")
    if _QUEUE_FULL.search(text):
        return Overloaded(f"The queue of the model '{model}' is full; try again.", retry_after=1.0)
    inside = _INSIDE.search(text) is not None
    if not inside and _TIMEOUT.search(text):
        return EngineTimeout(f"The model '{model}' did not get to the request in time.")
    if not traceback and _UNAVAILABLE.search(text):
        return EngineUnavailable(f"The model '{model}' is not available now.")
    if inside:
        return EngineError(FAILED)
    if _CANCELLED.search(text):
        return EngineError(f"The model '{model}' broke the request off.")
    if _BAD_VALUE.search(text):
        return BadRequest(f"The model '{model}' refused the request: {_first_line(text)}")
    return EngineError(FAILED)


def _first_line(text: str) -> str:
    return _PREFIX.sub("", text.strip()).split("\n", 1)[0].strip()[:_SHOWN]


def of_status(status: int, detail: str, where: str) -> PenstockError:
    """The error of a call that ended with a gRPC status before its answer did. `where` is host:port."""
    match status:
        case 0:
            return EngineError(ENDED_EARLY)
        case 1:
            return Cancelled("The engine cancelled the request.")
        case 4:
            return EngineTimeout("The request's deadline passed before the answer was complete.")
        case 8:
            return Overloaded("The engine takes no more requests now; try again.", retry_after=1.0)
        case 14:
            return EngineUnavailable("The engine cannot be reached or has gone away.")
        case 12:
            return EngineError(f"The server at {where} is no Triton server: it has no ModelStreamInfer.")
    return EngineError(f"The engine ended the request with gRPC status {status}.")
