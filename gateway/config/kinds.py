"""The kinds of values that a key may have.

A kind reads one TOML value and gives what the program works with, or raises UnfitError. `wanted` says in
words what would do: it completes "give …" in an error and stands as the type in the reference.
"""

from __future__ import annotations

import math
import re
from typing import Any, Protocol

from msgspec import Struct

from gateway.config.settings import Address

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]+)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_DIGITS = re.compile(r"(?:[1-9][0-9]{0,17})?")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

_NO_TLS = (
    "TLS to the engine is not spoken here: end it in a proxy beside the gateway, "
    'and give that proxy\'s plain "HOST:PORT"'
)


class UnfitError(Exception):
    """A value that will not do. `remedy` replaces "give <wanted>" where something better can be said."""

    def __init__(self, says: str = "", remedy: str = "") -> None:
        super().__init__(says)
        self.says = says
        self.remedy = remedy


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


class Texts(Struct, frozen=True):
    """An array of at most `most` strings, none empty."""

    most: int

    @property
    def wanted(self) -> str:
        return f"an array of up to {self.most} strings, none empty"

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > self.most:
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


class Listen(Struct, frozen=True):
    """HOST:PORT to listen on; port 0 is any free one."""

    wanted: str = '"HOST:PORT" with a port from 0 to 65535 (0 is any free one), such as "127.0.0.1:8080"'

    def read(self, value: object) -> Address:
        if isinstance(value, str) and (scheme := _SCHEME.fullmatch(value)):
            raise UnfitError("", f'leave "{scheme[1]}://" out: give {self.wanted}')
        if isinstance(value, str) and value.startswith("*:"):
            raise UnfitError("", f'"0.0.0.0{value[1:]}" listens on all addresses' if len(value) < 9 else "")
        return read_address(value, lowest=0)


class Remote(Struct, frozen=True):
    """HOST:PORT of a Triton's gRPC, as it is connected to, or "". Without TLS: a remedy says so."""

    wanted: str = '"HOST:PORT" of a Triton\'s gRPC, such as "triton.internal:8001", or "" for the embedded one'

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if isinstance(value, str) and (scheme := _SCHEME.fullmatch(value)):
            rest = scheme[2].rstrip("/")
            if scheme[1].lower() in ("https", "grpcs"):
                raise UnfitError("", _NO_TLS)
            example = rest if _fits(rest, 1) else "triton.internal:8001"
            remedy = f'leave "{scheme[1]}://" out and give the gRPC port, by default 8001, such as "{example}"'
            raise UnfitError("", remedy)
        return str(read_address(value, lowest=1))


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


def read_address(value: object, *, lowest: int) -> Address:
    """HOST:PORT, with an IPv6 host in brackets. Errors: UnfitError."""
    if not isinstance(value, str):
        raise UnfitError
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = bool(_IPV6.fullmatch(host))
    elif _IPV6.fullmatch(value) and value.count(":") > 1:
        raise UnfitError("", 'put an IPv6 address in brackets, such as "[::1]:8080"')
    else:
        good = bool(_HOST.fullmatch(host))
    if not (good and colon and port.isascii() and port.isdigit() and len(port) <= 5 and lowest <= int(port) <= 65535):
        raise UnfitError
    return Address(host, int(port))


def _fits(text: str, lowest: int) -> bool:
    try:
        read_address(text, lowest=lowest)
    except UnfitError:
        return False
    return True
