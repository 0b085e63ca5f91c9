"""Stop words on text, not on tokens: a stop word may begin and end in the middle of a token.

GenAI's own stop strings drop whole tokens, and with them text before the stop word; here nothing
before it is lost and nothing of it gets out. Text that may yet turn into a stop word is held back.
"""

from __future__ import annotations

from collections.abc import Iterable


class StopMatcher:
    """Feeds text through and cuts it before the stop word that is complete first (the longest, of several).

    How the text is cut into parts makes no difference.

    >>> m = StopMatcher(["END"]); m.push("the E"), m.push("ND it")
    (('the ', False), ('', True))
    """

    __slots__ = ("_held", "_stops")

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Return (text that is safe to send, whether a stop word was met).

        After a stop word was met the matcher is done; push no more.
        """
        if not self._stops:
            return text, False
        seen = self._held + text
        hits = [(at + len(stop), at) for stop in self._stops if (at := seen.find(stop)) >= 0]
        if hits:
            self._held = ""
            return seen[: min(hits)[1]], True
        keep = max(_overlap(seen, stop) for stop in self._stops)
        self._held = seen[len(seen) - keep :]
        return seen[: len(seen) - keep], False

    def flush(self) -> str:
        """The text held back, when the generation ended without the stop word."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
