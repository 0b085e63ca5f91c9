"""Header blocks: constant ones out, cached ones in.

Out: every request of a method carries the same fields, so its block is built once, as literals without
indexing (RFC 7541, 6.2.2). Such a block means the same whatever the state of the peer's table.

In: we announce SETTINGS_HEADER_TABLE_SIZE 0. Decoding depends on the order of blocks as long as the peer's
table may hold anything, that is until it has acknowledged our SETTINGS *and* told its decoder (us) of the
smaller size. From then on an insertion finds no room, a reference into the table is an error, a size update
may only say 0 again: a block's meaning is a function of its bytes. So the rules are

- until then, every block goes through the decoder, in order, and nothing is remembered;
- after that, a block seen before is answered from a cache and the decoder never sees it: it can't matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from hpack import Decoder
from hpack.exceptions import HPACKError

from gateway.engines.http2_frames import COMPRESSION_ERROR, ProtocolError
from gateway.engines.http2_status import Answer, of_headers

MAX_HEADER_LIST = 32 * 1024  # octets, decoded, as RFC 9113 counts them; also the limit of a block as sent
MAX_REQUEST_BLOCK = 8 * 1024  # octets; gRPC servers refuse more by default
_CACHED_BLOCKS = 64
_CACHED_BLOCK_SIZE = 512  # octets; longer ones are error texts, which seldom repeat

_NAME = re.compile(rb"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[\x20-\x7e]*")
_UNITS = ((1e-6, b"u"), (1e-3, b"m"), (1.0, b"S"))


@dataclass(frozen=True, slots=True, init=False)
class Method:
    """One gRPC method: its path, "/package.Service/Method", and the constant part of its request headers."""

    path: str
    block: bytes

    def __init__(self, path: str | bytes) -> None:
        text = path.decode("ascii") if isinstance(path, bytes) else path
        if not text.startswith("/") or not _VALUE.fullmatch(text.encode()):
            raise ValueError(f"not a gRPC path: {text!r}")
        object.__setattr__(self, "path", text)
        constant = literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
        object.__setattr__(self, "block", b"\x04" + _string(text.encode()) + constant)

    def __repr__(self) -> str:
        return f"Method({self.path!r})"


def literal(name: bytes, value: bytes) -> bytes:
    """One field as a literal without indexing, new name, no Huffman code."""
    return b"\x00" + _string(name) + _string(value)


def pseudo_headers(authority: bytes) -> bytes:
    """:method POST, :scheme http and :authority, which all requests of a connection share."""
    return b"\x83\x86\x01" + _string(authority)


def extra_fields(timeout: float | None, metadata: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The fields that differ from call to call. `timeout` is in seconds and rounded up; metadata values go as
    they are, so those of `-bin` keys come base64-encoded. ValueError for what gRPC doesn't let pass: one bad
    field of one client may make a peer close the connection that all share."""
    block = b"" if timeout is None else _timeout_field(timeout)
    for name, value in metadata:
        if not _NAME.fullmatch(name) or name.startswith(b"grpc-") or not _VALUE.fullmatch(value):
            raise ValueError(f"not gRPC metadata: {name!r}")
        block += literal(name, value)
    if len(block) > MAX_REQUEST_BLOCK:
        raise ValueError(f"metadata of {len(block)} octets; {MAX_REQUEST_BLOCK} are the limit")
    return block


@lru_cache(maxsize=64)
def _timeout_field(timeout: float) -> bytes:
    return b"\x00\x0cgrpc-timeout" + _string(_timeout(timeout))


def _timeout(seconds: float) -> bytes:
    """At most eight digits and a unit; an expired deadline is the smallest timeout there is."""
    for size, unit in _UNITS:
        if seconds < size * 99_999_999:
            return b"%d%s" % (max(1, math.ceil(seconds / size)), unit)
    return b"99999999S"


def _string(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    prefix, size = bytearray(b"\x7f"), size - 127
    while size >= 128:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value


class HeaderReader:
    """Reads the header blocks of one connection; feed it every block, in order."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)
        self._cache: dict[bytes, Answer] = {}
        self._stateless = False

    def table_size_acknowledged(self) -> None:
        """The peer has applied our SETTINGS: its next block has to begin with a size update to 0."""
        self._decoder.max_allowed_table_size = 0

    def read(self, block: bytes) -> Answer:
        """What the block means. ProtocolError(COMPRESSION_ERROR) if it can't be decoded."""
        answer = self._cache.get(block)
        if answer is not None:
            return answer
        try:
            fields = list(self._decoder.decode(block, raw=True))
        except (HPACKError, ValueError, IndexError) as error:
            raise ProtocolError(COMPRESSION_ERROR, f"undecodable header block: {str(error)[:100]}") from error
        answer = of_headers([(bytes(name), bytes(value)) for name, value in fields])
        if self._stateless:
            self._remember(block, answer)
        elif self._decoder.max_allowed_table_size == 0 == self._decoder.header_table_size:
            self._stateless = True
        return answer

    def _remember(self, block: bytes, answer: Answer) -> None:
        if len(block) > _CACHED_BLOCK_SIZE:
            return
        if len(self._cache) >= _CACHED_BLOCKS:
            del self._cache[next(iter(self._cache))]
        self._cache[block] = answer
