"""On which line does a key stand? tomllib does not say, so this scans the text once more.

Rules: the text has already been accepted by tomllib, so this checks nothing and never raises; on a
construct that it does not understand it goes on at the next line. It knows where values end (strings of
the four kinds, arrays, inline tables), and that is all it knows of them. Lines count from 1.

Source: TOML 1.0.0 (toml.io/en/v1.0.0), sections Keys, String, Table, Inline Table, Array of Tables. Line
breaks inside inline tables, which 1.1 allows, are understood as well.
"""

from __future__ import annotations

import re
import tomllib

from gateway.config.problem import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")  # spaces, line breaks and comments
_SCALAR = re.compile(r"[^,\]}#\r\n]*")  # numbers, dates, booleans
# The end of a string, after its opening quotes. A multi-line string may end in up to two quotes of its own.
_END = {
    '"""': re.compile(r'(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    "'''": re.compile(r"(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    '"': re.compile(r'(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"[^'\n]*'"),
}

_DEEPEST = 16  # a config has seven levels; without an end, a.a.a.… would cost the square of its length


def locate(text: str) -> dict[KeyPath, int]:
    """The line of every table, key and array element of a TOML text; parents stand where first named.

    An element of an array, and each table of an array of tables, has its index as an int in the path. What
    lies deeper than 16 levels has no entry of its own.
    """
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counted = 0  # up to here line breaks have been counted
        self.number = 1
        self.lines: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, int] = {}  # arrays of tables: how many so far

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self.skip(_BLANK) < len(self.text):
            if self.peek("["):
                table = self.header()
            else:
                self.pair(table)
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end + 1
        return self.lines

    def header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`: the path of the table that the lines below belong to."""
        line = self.line()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: KeyPath = ()
        parts = self.key()
        for index, part in enumerate(parts):
            path = _deeper(path, part)
            self.lines.setdefault(path, line)
            if array and index == len(parts) - 1:
                self.tables[path] = self.tables.get(path, 0) + 1
            if path in self.tables:
                path = _deeper(path, self.tables[path] - 1)
        self.lines[path] = line  # where the table itself begins, though a child may have named it before
        return path

    def pair(self, table: KeyPath) -> None:
        """`a.b = value`."""
        line = self.line()
        path = table
        for part in self.key():
            path = _deeper(path, part)
            self.lines.setdefault(path, line)
        self.skip(_SPACE)
        if self.peek("="):
            self.at += 1
            self.value(path)

    def key(self) -> list[str]:
        """The parts of a dotted key; stops before anything else."""
        parts = []
        while True:
            self.skip(_SPACE)
            start = self.at
            if self.peek('"') or self.peek("'"):
                self.string()
                parts.append(_unquote(self.text[start : self.at]))
            else:
                self.skip(_BARE)
                parts.append(self.text[start : self.at])
            self.skip(_SPACE)
            if not self.peek("."):
                return parts
            self.at += 1

    def value(self, path: KeyPath) -> None:
        self.skip(_SPACE)
        if self.peek('"') or self.peek("'"):
            self.string()
        elif self.peek("["):
            self.many("]", path)
        elif self.peek("{"):
            self.many("}", path)
        else:
            self.skip(_SCALAR)

    def many(self, close: str, path: KeyPath) -> None:
        """The elements of an array, or the pairs of an inline table, up to the closing bracket."""
        self.at += 1
        index = 0
        while self.skip(_BLANK) < len(self.text) and not self.peek(close):
            before = self.at
            if close == "]":
                element = _deeper(path, index)
                self.lines.setdefault(element, self.line())
                self.value(element)
                index += 1
            else:
                self.pair(path)
            self.skip(_BLANK)
            if self.peek(","):
                self.at += 1
            if self.at == before:  # not TOML; go on rather than stand still
                self.at += 1
        self.at += 1

    def string(self) -> None:
        quote = self.text[self.at]
        quotes = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(quotes)
        match = _END[quotes].match(self.text, self.at)
        self.at = match.end() if match else len(self.text)

    def peek(self, char: str) -> bool:
        return self.text.startswith(char, self.at)

    def skip(self, pattern: re.Pattern[str]) -> int:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()
        return self.at

    def line(self) -> int:
        self.number += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.number


def _deeper(path: KeyPath, part: str | int) -> KeyPath:
    return (*path, part) if len(path) < _DEEPEST else path


def _unquote(literal: str) -> str:
    """The text of a quoted key. tomllib knows the escapes, so it is asked."""
    try:
        return str(tomllib.loads(f"x = {literal}")["x"])
    except tomllib.TOMLDecodeError:
        return literal  # an unclosed quote, which a text that tomllib accepted does not have
