"""Records to write, and segments made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.core.request import Message, Sampling
from gateway.journal.frame import HEADER, frame
from gateway.journal.record import Choice, Record, encode_record
from gateway.journal.segments import segment_name

AT = 1_790_000_000_000_000_000
MS = 1_000_000


def make_record(number: int = 0, **fields: Any) -> Record:
    """A finished inference, received `number` milliseconds after AT."""
    at = AT + number * MS
    given: dict[str, Any] = {
        "id": f"{at // MS:011x}{'ab12cd34'}{number:06x}",
        "at": at,
        "outcome": "finished",
        "request_id": f"req-{number}",
        "endpoint": "assistant",
        "version": "v1",
        "messages": (Message("user", f"Question {number}?"),),
        "choices": (Choice(f"Answer {number}.", "stop"),),
        "sampling": Sampling(max_tokens=16, seed=7),
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "sent": MS,
        "first_text": 20 * MS,
        "last_text": 60 * MS,
        "ended": 61 * MS,
        "chunks": 5,
        "cost": 1000 + number,
        "price": "p1",
    }
    return Record(**(given | fields))


def write_segment(
    folder: Path, records: list[Record], *, worker: int = 0, start: int = AT // 1000, pid: int = 1
) -> Path:
    """A whole segment, as a writer that has ended left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / segment_name(worker, start, pid)
    path.write_bytes(HEADER + b"".join(frame(encode_record(record)) for record in records))
    return path
