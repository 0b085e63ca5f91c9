"""The kinds of values that a key may have.

A kind reads one TOML value and gives what the program works with, or raises UnfitError. `wanted` says in
words what would do: it completes "give …" in an error and stands as the type in the reference.
"""

from __future__ import annotations

import math
import re
import warnings
from hashlib import sha256
from typing import Any, Protocol

from msgspec import Struct

from gateway.config.problem import found_words, kind_words, quoted

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS = re.compile(r"(?:[1-9][0-9]{0,17})?")
_HEX64 = re.compile(r"[0-9A-Fa-f]{64}")
_SHA256_OF_NOTHING = sha256().hexdigest()
_HASH_IT = "give the sha256 of the key, 64 hex digits: printf %s KEY | sha256sum"
_PATTERN = 1024  # characters
_PROBES = ("", "a", " a1-\n")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


class UnfitError(Exception):
    """A value that will not do. `remedy` replaces "give <wanted>" where something better can be said.

    With `hide` the value may be a secret, and is not shown.
    """

    def __init__(self, says: str = "", remedy: str = "", *, hide: bool = False) -> None:
        super().__init__(says)
        self.says = says
        self.remedy = remedy
        self.hide = hide


class Kind(Protocol):
    """A kind of value; `read` raises UnfitError."""

    @property
    def wanted(self) -> str: ...

    def read(self, value: object) -> Any: ...


class Integer(Struct, frozen=True):
    """A whole number in [low, high]. A boolean is none, nor is 3.0."""

    low: int
    high: int

    @property
    def wanted(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def read(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise UnfitError
        return value


class Number(Struct, frozen=True):
    """A finite number in [low, high], or in (low, high] with `above`. Integers are taken as well."""

    low: float
    high: float
    above: bool = False

    @property
    def wanted(self) -> str:
        low, high = (f"{bound:g}".replace("e+", "e") for bound in (self.low, self.high))
        return f"a number above {low} and up to {high}" if self.above else f"a number from {low} to {high}"

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise UnfitError
        if not self.low <= value <= self.high or (self.above and value == self.low):
            raise UnfitError
        return float(value)


class Text(Struct, frozen=True):
    """A string of at most `longest` characters; on one line, free of control characters, unless `lines`."""

    wanted: str
    longest: int
    empty: bool = True
    lines: bool = False

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not (value or self.empty):
            raise UnfitError
        if len(value) > self.longest:
            raise UnfitError(
                f"found a string of {len(value)} characters", f"give {self.wanted}, of {self.longest} at most"
            )
        if not self.lines and _CONTROL.search(value):
            raise UnfitError("", f"give {self.wanted}, on one line and without control characters")
        return value


class Digits(Struct, frozen=True):
    """The number of a model's version in Triton, as a string; "" leaves it to Triton."""

    wanted: str = 'a Triton version number in quotes, such as "2"'

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _DIGITS.fullmatch(value):
            raise UnfitError
        return value


class Boolean(Struct, frozen=True):
    """true or false; 0 and "yes" are neither."""

    wanted: str = "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise UnfitError
        return value


class Name(Struct, frozen=True):
    """A name of the user's choice that matches `pattern`."""

    wanted: str
    pattern: re.Pattern[str]

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise UnfitError
        return value


class Texts(Struct, frozen=True):
    """An array of `least` to `most` strings, none empty. `example` shows one in errors."""

    most: int
    least: int = 0
    example: str = ""

    @property
    def wanted(self) -> str:
        size = f"{self.least} to {self.most}" if self.least else f"up to {self.most}"
        return f"an array of {size} strings, none empty" + (f", such as {self.example}" if self.example else "")

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise UnfitError
        for item in value:
            if not isinstance(item, str) or not item:
                raise UnfitError("found an element that is empty or no string")
        return tuple(value)


class Choice(Struct, frozen=True):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return " or ".join(filter(None, [", ".join(f'"{w}"' for w in self.words[:-1]), f'"{self.words[-1]}"']))

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise UnfitError
        return value


class Sticky(Struct, frozen=True):
    """ "user", "none" or "header:NAME"; the name comes out in lower case."""

    wanted: str = '"user", "none" or "header:NAME"'

    def read(self, value: object) -> str:
        if value in ("user", "none"):
            return str(value)
        if not isinstance(value, str) or not value.startswith("header:"):
            raise UnfitError
        name = value.removeprefix("header:")
        if not _HEADER.fullmatch(name):
            raise UnfitError("", 'a header name has letters, digits and -, such as "header:x-session-id"')
        return value.lower()


class Patterns(Struct, frozen=True):
    """An array of regular expressions that compile and never match nothing: that would be found everywhere."""

    most: int

    @property
    def wanted(self) -> str:
        return f"an array of up to {self.most} regular expressions (Python's), each of {_PATTERN} characters at most"

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > self.most:
            raise UnfitError
        for index, item in enumerate(value):
            if not isinstance(item, str) or not 0 < len(item) <= _PATTERN:
                raise UnfitError(f"its element {index} will not do: {found_words(item)}")
            _check_pattern(index, item)
        return tuple(value)


def _check_pattern(index: int, text: str) -> None:
    which = f"its element {index}, {quoted(text)},"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what `re` warns of means something else in its next version
            pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        reason = " ".join(str(error).split()) or "it is nested too deeply"
        raise UnfitError(f"{which} does not compile: {reason}", "correct the pattern") from None
    if any(not match.group() for probe in _PROBES for match in pattern.finditer(probe)):
        raise UnfitError(f"{which} matches the empty string", "give a pattern that needs at least one character")


class Sha256(Struct, frozen=True):
    """A sha256 in hex, out in lower case. What is none may be the secret itself, so it is never shown."""

    wanted: str = "the sha256 of a key in 64 hex digits"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _HEX64.fullmatch(value):
            raise UnfitError(f"found {kind_words(value)} that is no sha256, and is not shown", _HASH_IT, hide=True)
        if value.lower() == _SHA256_OF_NOTHING:
            raise UnfitError("found the sha256 of the empty string", f"was KEY empty? {_HASH_IT}")
        return value.lower()
