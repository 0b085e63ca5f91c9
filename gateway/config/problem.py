"""What is wrong with a config, and where.

Rules: nothing here stops at the first fault. Readers note problems in a Report and go on, so that a person
sees all of them at once; `raise_if_any` is the only door from a Report to an exception. Every problem has
a place (file and line, or the command-line flag), what was found, and what would do instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 60  # characters of a found value; a report is for reading


class Problem(Struct, frozen=True):
    """One fault. `line` and `column` count from 1; 0 where there is none (a flag, an unreadable file).

    `path` is the file as it was given, or "command line". `message` is a full sentence with key, finding
    and remedy; `key` is dotted and quoted as TOML would have it, or the flag.
    """

    path: str
    line: int
    key: str
    found: str
    remedy: str
    message: str
    column: int = 0

    def __str__(self) -> str:
        place = self.path
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        return f"{place}: {self.message}"


class ConfigError(Exception):
    """The config was refused, whole. `problems` has at least one entry, in the order of their lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"The config was refused, with {count}:", *(f"  {p}" for p in problems)]))


class Report:
    """Collects problems. `lines` says on which line each key of the file stands; a key that it does not
    know is reported at its nearest parent. `flags` names the keys whose value came from a flag."""

    def __init__(self, path: str, lines: Mapping[KeyPath, int] | None = None) -> None:
        self.path = path
        self.lines = dict(lines or {})
        self.flags: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []

    def add(self, at: KeyPath, says: str, remedy: str, found: str = "") -> None:
        """Note a problem with the key `at`. `says` and `remedy` are joined to a sentence."""
        flag = self.flags.get(at)
        key = flag or dotted(at)
        text = f"{says}; {remedy}" if remedy else says
        self.problems.append(
            Problem(
                path="command line" if flag else self.path,
                line=0 if flag else self.line(at),
                key=key,
                found=found,
                remedy=remedy,
                message=f"{key}: {text}" if key else text,
            )
        )

    def line(self, at: KeyPath) -> int:
        """The line of `at`, or of its nearest parent that has one, or 0."""
        for size in range(len(at), 0, -1):
            if (line := self.lines.get(at[:size])) is not None:
                return line
        return 0

    def raise_if_any(self) -> None:
        """Errors: ConfigError with all problems, by line, those of flags and of the whole file first."""
        if self.problems:
            raise ConfigError(tuple(sorted(self.problems, key=lambda problem: problem.line)))


def dotted(at: KeyPath) -> str:
    """A key as TOML writes it: a.b."c d"[0]."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if _BARE.fullmatch(part) else quoted(part))
    return text


def quoted(text: str) -> str:
    """`text` in double quotes on one line, cut to what a report can show."""
    cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return '"' + "".join(_escape(char) for char in cut) + '"'


def found_words(value: object) -> str:
    """A TOML value in words: `the string "x"`, `the integer 3`, `an array of 2`, `a table`."""
    match value:
        case bool():
            return f"the boolean {str(value).lower()}"
        case int():
            return f"the integer {value}" if abs(value) < 10**30 else "an integer of more than 30 digits"
        case float():
            return f"the number {value!r}"
        case str():
            return f"the string {quoted(value)}"
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "a table"
        case _:
            return f"the date or time {value}"


def kind_words(value: object) -> str:
    """The same for a value that may be a secret: its kind alone."""
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string of one character" if len(value) == 1 else f"a string of {len(value)} characters"
        case _:
            return found_words(value) if isinstance(value, list | dict) else "a date or time"


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else char.encode("unicode_escape").decode()
