"""What of a record's content may be written: all of it, its hashes, or none; and what is blacked out of it.

The text is what a client or the model wrote: messages, prompts, tool calls, stop strings, answers. Numbers, names of
ours and ids stay, so that cost and latency can be reckoned whatever is kept.

Patterns are the user's own regular expressions and run on the worker's event loop, where `re` knows no time limit.
So they see at most CHECKED_CHARS characters of a record: what lies beyond is not written at all, since what was not
checked may not be kept. A pattern whose time grows with the square of the text is the user's to avoid.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.core.request import Message
from gateway.journal.record import Choice, Failure, Record

CHECKED_CHARS = 1 << 18
MARGIN = 1024
"""Characters before the cut that are left out too: a secret that the cut goes through would not match."""
REDACTED = "[redacted]"

Patterns = tuple[re.Pattern[str], ...]


def protect(record: Record, patterns: Patterns) -> Record:
    """The record as it may be written, by its own `content` and the patterns."""
    if record.content == "none":
        return _redact_rest(_without_text(record), patterns)
    if record.content == "hashed":
        return _redact_rest(_with_text(record, digest), patterns)
    if not patterns:
        return record
    return _redact_rest(_with_text(record, Redactor(patterns)), patterns)


def digest(text: str) -> str:
    """`sha256:<hex>` of the UTF-8; "" stays ""."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}" if text else ""


class Redactor:
    """Replaces what matches, in texts of one record."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._left = CHECKED_CHARS

    def __call__(self, text: str) -> str:
        checked = text[: self._left]
        whole = len(checked) == len(text)
        self._left -= len(checked)
        for pattern in self._patterns:
            checked = pattern.sub(REDACTED, checked)
        return checked if whole else checked[:-MARGIN] + REDACTED


def _without_text(record: Record) -> Record:
    return replace(
        record,
        messages=tuple([Message(message.role, "") for message in record.messages]),
        prompts=(),
        choices=tuple([Choice("", choice.finish) for choice in record.choices]),
        sampling=replace(record.sampling, stop=()) if record.sampling is not None else None,
    )


def _with_text(record: Record, change: Callable[[str], str]) -> Record:
    sampling = record.sampling
    return replace(
        record,
        messages=tuple([_message(message, change) for message in record.messages]),
        prompts=tuple([change(prompt) for prompt in record.prompts]),
        choices=tuple([Choice(change(choice.text), choice.finish) for choice in record.choices]),
        sampling=replace(sampling, stop=tuple([change(stop) for stop in sampling.stop]))
        if sampling is not None
        else None,
    )


def _message(message: Message, change: Callable[[str], str]) -> Message:
    calls = message.tool_calls
    if calls is not None:
        if change is digest:
            calls = [digest(msgspec.json.encode(_printable(calls)).decode())]
        else:
            calls = _strings(calls, change)
    return Message(
        role=message.role,
        content=change(message.content),
        name=None if message.name is None else change(message.name),
        tool_calls=calls,
        tool_call_id=None if message.tool_call_id is None else change(message.tool_call_id),
    )


def _printable(value: Any) -> Any:
    return _strings(value, lambda text: text.encode("utf-8", "replace").decode())


def _strings(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(key)): _strings(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strings(item, change) for item in value]
    return value


def _redact_rest(record: Record, patterns: Patterns) -> Record:
    # Not content, but a client's words all the same: a model's name as asked, and an error that quotes it.
    if not patterns or (not record.model and record.failure is None):
        return record
    redact = Redactor(patterns)
    failure = record.failure
    if failure is not None:
        failure = Failure(failure.code, redact(failure.message), failure.status, failure.param)
    return replace(record, model=redact(record.model), failure=failure)
