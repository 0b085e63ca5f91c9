"""Join text that arrives in pieces whose borders ignore UTF-8.

Two rules: a character is passed on when all of its bytes are there, and never before; bytes that can
never become a character are replaced by U+FFFD, as every decoder does, at the moment that is certain.
"""

from __future__ import annotations

import codecs

_decoder = codecs.getincrementaldecoder("utf-8")


class Utf8Joiner:
    """Feed bytes, get the text that is complete so far."""

    __slots__ = ("_slow",)

    def __init__(self) -> None:
        self._slow: codecs.IncrementalDecoder | None = None  # made only when a border has split a character

    def push(self, data: bytes) -> str:
        """Text that `data` completes. Never raises."""
        if self._slow is None:
            try:
                return data.decode()
            except UnicodeDecodeError:
                self._slow = _decoder("replace")
        text = self._slow.decode(data)
        if not self._slow.getstate()[0]:
            self._slow = None
        return text

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never came whole, else nothing."""
        slow, self._slow = self._slow, None
        return slow.decode(b"", True) if slow is not None else ""
