"""Stop strings, enforced on text that arrives in chunks.

Engines tokenize stop words by themselves and miss those that straddle tokens, so the gateway looks too.
Rules: text up to the first match is passed on, the match and all after it never; text that could still
become a match is held back until it is decided. The first match is the one that is complete first, as if
the text came character by character, so the answer does not depend on where the engine cuts its chunks; of
two that end at the same place the longer one is taken, so that nothing of either is shown.
"""

from __future__ import annotations


class StopScanner:
    """`push` chunks until it says stopped; `finish` gives what was held back when the text just ended."""

    __slots__ = ("_held", "_longest", "_stops", "stopped")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of all text so far that is safe to show and was not shown before."""
        if self.stopped:
            return ""
        text = self._held + text
        matches = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if matches:
            self.stopped = True
            self._held = ""
            return text[: min(matches)[1]]
        keep = self._undecided(text)
        self._held = text[len(text) - keep :] if keep else ""
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text held back, once it is certain that no more will come."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        # The longest tail of the text that begins some stop string.
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0
