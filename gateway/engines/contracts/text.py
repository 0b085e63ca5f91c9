"""The text of an answer, out of the bytes of its responses.

Models stream in one of two ways: each response carries what is new (delta), or all so far (cumulative).
Every class here takes the bytes of one response after another and gives the text that may be shown, and at
the end what was held back. None of them ever raises or takes back what it gave.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.utf8 import Utf8Joiner

_REPLACEMENT = "\ufffd".encode()  # what a detokenizer shows for a character that is not complete yet
_EVIDENCE = 8  # bytes that must repeat at the start of two responses before chance is ruled out


class TextSource(Protocol):
    def push(self, data: bytes) -> str: ...

    def finish(self) -> str: ...


class CumulativeText:
    """Every response repeats the text so far.

    A detokenizer may still change the end of it: an incomplete character (cut off, or shown as U+FFFD) is
    held back until it resolves or the text ends. One that changes more (a space before a full stop goes) is
    followed from the place of the change: nothing is lost, what was shown stays.
    """

    __slots__ = ("_held", "_shown")

    def __init__(self) -> None:
        self._shown = b""  # as the model last had it, without what is held back
        self._held = b""

    def push(self, data: bytes) -> str:
        shown = self._shown
        if data.startswith(shown):
            start = len(shown)
        elif shown.startswith(data):
            return ""  # shorter than before: the rest will come again
        else:
            start = _boundary(data, _common(shown, data))
        end = _complete(data)
        if end < start:
            end = start
        self._held = data[end:]
        self._shown = data[:end]
        return data[start:end].decode("utf-8", "replace")

    def finish(self) -> str:
        held, self._held = self._held, b""
        return held.decode("utf-8", "replace")


class TextMode:
    """Which way a model streams, as far as it is known. One per binding: a stream learns from others."""

    __slots__ = ("cumulative",)

    def __init__(self) -> None:
        self.cumulative: bool | None = None

    def __repr__(self) -> str:
        return f"TextMode(cumulative={self.cumulative})"


class DetectingText:
    """For a model that is said to repeat its text but may not: read as cumulative until a response does not
    continue the one before it; from then on, and for all later streams, as delta.

    The doubt is over as well once eight bytes came again. Two first deltas of which one begins the other
    ("1", "12") are taken for cumulative text; a version's `text_mode` ends all guessing.
    """

    __slots__ = ("_before", "_decided", "_guess", "_mode", "_pieces", "_shown")

    def __init__(self, mode: TextMode) -> None:
        self._mode = mode
        self._guess = CumulativeText()
        self._decided: TextSource | None = None
        if mode.cumulative is not None:
            self._decided = self._guess if mode.cumulative else Utf8Joiner()
        self._before = b""
        self._pieces: list[bytes] = []
        self._shown = ""

    def push(self, data: bytes) -> str:
        if self._decided is not None:
            return self._decided.push(data)
        stable = self._before[: _complete(self._before)]
        self._pieces.append(data)
        if stable and data and not data.startswith(stable):
            self._mode.cumulative = False
            self._decided = joiner = Utf8Joiner()
            text = "".join(map(joiner.push, self._pieces))
            return text[len(self._shown) :] if text.startswith(self._shown) else data.decode("utf-8", "replace")
        if len(stable) >= _EVIDENCE and len(data) > len(stable):
            self._mode.cumulative = True
            self._decided = self._guess
        if data:
            self._before = data
        text = self._guess.push(data)
        self._shown += text
        return text

    def finish(self) -> str:
        return (self._decided or self._guess).finish()


class EchoText:
    """Takes the prompt off the front of a text that begins with it; white space before it does not matter."""

    __slots__ = ("_buffer", "_decided", "_inner", "_prompt")

    def __init__(self, inner: TextSource, prompt: str) -> None:
        self._inner = inner
        self._prompt = prompt.lstrip()
        self._buffer = ""
        self._decided = not self._prompt

    def push(self, data: bytes) -> str:
        text = self._inner.push(data)
        if self._decided:
            return text
        self._buffer += text
        body = self._buffer.lstrip()
        if body.startswith(self._prompt):
            self._decided = True
            return body[len(self._prompt) :]
        if self._prompt.startswith(body):
            return ""
        self._decided = True
        return self._buffer

    def finish(self) -> str:
        rest = self._inner.finish()
        if self._decided:
            return rest
        self._decided = True
        text = self._buffer + rest
        body = text.lstrip()
        return body[len(self._prompt) :] if body.startswith(self._prompt) else text


def _common(one: bytes, other: bytes) -> int:
    # The length of what both begin with.
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))


def _boundary(data: bytes, at: int) -> int:
    # Back to the start of the character that `at` is in.
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _complete(data: bytes) -> int:
    """The length of `data` without an incomplete character at its end, and without U+FFFD there."""
    end = len(data)
    while data.endswith(_REPLACEMENT, 0, end):
        end -= 3
    for back in range(1, min(3, end) + 1):
        byte = data[end - back]
        if byte < 0x80:
            break
        if byte >= 0xC0:  # a first byte: 0xC0, 0xE0, 0xF0 announce 2, 3, 4 bytes
            if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4):
                end -= back
            break
    return end
