"""What a right reply is, whatever carried it. Pure: bytes and times in, what was seen or `WrongReply` out.

A reply is right when it is whole: valid from its first event to its last, one finish of a kind that ends an
answer, text that is not empty, and the end where it belongs. A reply that stopped half-way must never count as
a fast one, so everything here is checked before a single time is reported.

The reasons go into Locust's tables, logs and reports: they are made of our own words, numbers and identifiers of
the snake_case kind, and so can hold neither text of the reply nor of the prompt that it may quote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

FINISHES = frozenset({"stop", "length"})
_OTHER_FINISHES = frozenset({"content_filter", "tool_calls", "function_call"})
_CODES = frozenset({"cancelled", "overloaded", "timeout"})  # those of Penstock that are one word
_CODE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
_CODE_LENGTH = 48


class WrongReply(Exception):
    """Why a reply is no good, in a few words."""


@dataclass
class Seen:
    """What a client saw of one reply: `texts` are the times of its pieces of text, in seconds of the clock."""

    texts: list[float] = field(default_factory=list)
    finish: str = ""
    tokens: int | None = None
    """Of the answer, as counted by the server; None when it did not say."""

    def text(self, piece: str, now: float) -> None:
        """A piece of the answer; an empty one is no text."""
        if not piece:
            return
        if self.finish:
            raise WrongReply("text after the finish")
        self.texts.append(now)

    def finished(self, reason: object) -> None:
        """The one finish of the answer."""
        if self.finish:
            raise WrongReply("two finishes")
        if reason not in FINISHES:
            kind = reason if reason in _OTHER_FINISHES else "unknown"
            raise WrongReply(f"finish reason neither stop nor length: {kind}")
        self.finish = str(reason)

    def complete(self) -> Seen:
        """Itself, once nothing more comes."""
        if not self.finish:
            raise WrongReply("no finish reason")
        if not self.texts:
            raise WrongReply("empty text")
        return self

    @property
    def gaps(self) -> list[float]:
        """Seconds between one piece of text and the next. A piece may hold several tokens."""
        return [after - before for before, after in zip(self.texts, self.texts[1:], strict=False)]

    @property
    def per_token(self) -> float | None:
        """TPOT in seconds, as in the journal: first text to last, for each token after the first; None without one."""
        if len(self.texts) < 2 or self.tokens is None or self.tokens < 2:
            return None
        return (self.texts[-1] - self.texts[0]) / (self.tokens - 1)


def read_chat_stream(lines: Iterable[bytes], clock: Callable[[], float]) -> Seen:
    """A streamed chat completion from its lines, each timed by `clock` as it comes. Errors: WrongReply."""
    seen = Seen()
    done = False
    for line in lines:
        now = clock()
        line = line.rstrip(b"\r\n")
        if not line or line.startswith(b":"):
            continue
        name, _, data = line.partition(b":")
        if name in (b"event", b"id", b"retry"):
            continue
        if name != b"data":
            raise WrongReply("a line that is no server-sent event")
        if done:
            raise WrongReply("an event after [DONE]")
        data = data.strip()
        if data == b"[DONE]":
            done = True
            continue
        chunk = _object(data, "an event")
        if chunk.get("error") is not None:
            raise WrongReply(f"error in the stream{_code(chunk)}")
        for choice in _choices(chunk):
            seen.text(_text(choice, "delta"), now)
            if choice.get("finish_reason") is not None:
                seen.finished(choice["finish_reason"])
        seen.tokens = _tokens(chunk, seen.tokens)
    if not done:
        raise WrongReply("cut off before [DONE]")
    return seen.complete()


def read_chat(body: bytes, now: float) -> Seen:
    """A chat completion in one piece, which was whole at `now`. Errors: WrongReply."""
    answer = _object(body, "the body")
    choices = _choices(answer)
    if len(choices) != 1:
        raise WrongReply(f"{len(choices)} choices instead of 1")
    seen = Seen(tokens=_tokens(answer, None))
    seen.text(_text(choices[0], "message"), now)
    if choices[0].get("finish_reason") is not None:
        seen.finished(choices[0]["finish_reason"])
    return seen.complete()


def refusal(status: int, body: bytes) -> WrongReply:
    """The reason of an answer that is not 200: the status and the error's code, never its message."""
    try:
        return WrongReply(f"HTTP {status}{_code(_object(body, ''))}")
    except WrongReply:
        return WrongReply(f"HTTP {status}")


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise WrongReply(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise WrongReply(f"{what} is no JSON object")
    return value


def _choices(answer: dict[str, Any]) -> list[dict[str, Any]]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise WrongReply("no list of choices")
    if any(choice.get("index") != 0 for choice in choices):
        raise WrongReply("a choice that was not asked for")
    return choices


def _text(choice: dict[str, Any], where: str) -> str:
    holder = choice.get(where)
    text = holder.get("content") if isinstance(holder, dict) else ""
    if not isinstance(text, str | None):
        raise WrongReply("content that is no text")
    return text or ""


def _tokens(answer: dict[str, Any], before: int | None) -> int | None:
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return before
    tokens = usage.get("completion_tokens")
    return tokens if isinstance(tokens, int) else before


def _code(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    if isinstance(error, dict):
        for value in (error.get("code"), error.get("type")):
            if isinstance(value, str) and len(value) <= _CODE_LENGTH and (value in _CODES or _CODE.fullmatch(value)):
                return f" {value}"
    return ""
