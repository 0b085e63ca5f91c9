"""Records for tests of spans."""

from __future__ import annotations

from typing import Any

from gateway.core.request import Message, Sampling
from gateway.journal.record import Choice, Failure, Record, Trace

MS = 1_000_000
AT = 1_700_000_000_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
OUR = "7000000000000001"
ENGINES = "f000000000000001"
CALLER = "b7ad6b7169203331"


def answered(**fields: Any) -> Record:
    """A chat that went well, its caller sampling."""
    known: dict[str, Any] = {
        "id": "018bcfe56800123456780000a1",
        "at": AT,
        "outcome": "finished",
        "worker": 2,
        "dialect": "openai_chat",
        "request_id": "req-1",
        "model": "assistant",
        "endpoint": "assistant",
        "version": "v2",
        "reason": "weight",
        "fingerprint": "assistant@v2:0123456789",
        "api_key": "team-a",
        "messages": (Message("user", "How high is it?"),),
        "choices": (Choice("300 m.", "stop"),),
        "stream": True,
        "sampling": Sampling(max_tokens=64, temperature=0.5, top_p=0.9, seed=7, stop=("\n",)),
        "determinism": "seeded",
        "prompt_tokens": 12,
        "completion_tokens": 4,
        "sent": 1 * MS,
        "first_text": 20 * MS,
        "last_text": 50 * MS,
        "ended": 52 * MS,
        "chunks": 4,
        "cost": 1234,
        "price": "2026-11",
        "replica": "127.0.0.1:8001",
        "trace": Trace(TRACE, OUR, CALLER, True, "a=1"),
    }
    return Record(**{**known, **fields})


def refused(**fields: Any) -> Record:
    """One whose body could not be read."""
    known: dict[str, Any] = {
        "id": "018bcfe56800123456780000a2",
        "at": AT,
        "outcome": "refused",
        "dialect": "openai_chat",
        "failure": Failure("invalid_request", "The body is no JSON.", 400),
        "trace": Trace(TRACE, OUR, CALLER, True),
    }
    return Record(**{**known, **fields})


FAILED = Failure("engine_error", "The engine failed.", 502)
