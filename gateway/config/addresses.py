"""The kinds of values that are addresses: where to listen, and where others listen."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.config.kinds import UnfitError
from gateway.config.problem import quoted
from gateway.config.settings import Address

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]+)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)

_NO_TLS = (
    "TLS to the engine is not spoken here: end it in a proxy beside the gateway, "
    'and give that proxy\'s plain "HOST:PORT"'
)


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


class Url(Struct, frozen=True):
    """An http:// or https:// URL that others add paths to, or "". Comes out without a slash at its end.

    `path` is what an address that is complete ends with, which a remedy names.
    """

    wanted: str
    path: str

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or len(value) > 2048 or not value.isascii() or not value.isprintable():
            raise UnfitError
        if "@" in value:
            raise UnfitError("found a URL with a user or password", "leave them out", hide=True)
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:  # brackets that do not match, or a port that is none
            raise UnfitError from None
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        if parts.scheme not in ("http", "https") or " " in value or not _fits(f"{host}:{port or 1}", 1) or port == 0:
            raise UnfitError
        if parts.query or parts.fragment:
            raise UnfitError("", "leave out what follows ? or #")
        base = value.rstrip("?#").rstrip("/")
        if base.endswith(self.path):
            raise UnfitError("", f"leave {self.path} out, it is added: give {quoted(base.removesuffix(self.path))}")
        return base


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
