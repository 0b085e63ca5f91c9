"""Triton's gRPC messages, cut by hand: protobuf's wire format and the request.

Why by hand: on the token path protobuf objects cost more than the rest together, and tritonclient five times
more again. A request of one binding differs from the next in a handful of values, so all else is prebuilt
bytes. The tests hold every message against protobuf's own parser.

Sources: protobuf.dev/programming-guides/encoding; Triton's `grpc_service.proto` (ModelInferRequest). Parsers
take fields in any order, so the id stands where it suits a template: after all that is constant.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

# Field numbers of inference.ModelInferRequest and InferInputTensor.
_MODEL, _VERSION, _ID, _PARAMETERS, _INPUTS, _RAW = 1, 2, 3, 4, 5, 7
_ID_TAG = b"\x1a"
_RAW_TAG = b"\x3a"

# The one parameter named triton_* that Triton takes: the end of every request is then marked, even when the
# last message carries no data.
_EMPTY_FINAL = "triton_enable_empty_final_response"

_KEPT_HEADERS = 16  # lists are stop words: few, and mostly of the same number

# dtype → struct code; BYTES elements have a length of their own and go another way.
_CODES = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "FP32": "f", "FP64": "d",
}  # fmt: skip


class WireError(ValueError):
    """Bytes that are no message of Triton's, or a value that its tensor cannot hold."""


def varint(number: int) -> bytes:
    """`number` (0 ≤ number < 2**64) in protobuf's base 128."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at `data[at:end]` and the place after it. Errors: WireError if it is cut off or too long."""
    if at + 1 < end:  # one or two bytes, as nearly all
        low, high = data[at], data[at + 1]
        if low < 128:
            return low, at + 1
        if high < 128:
            return low & 127 | high << 7, at + 2
    number = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise WireError("a varint is cut off or too long")


def field(number: int, data: bytes) -> bytes:
    """One length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def walk(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message in `data[at:end]`: (number, wire type, a, b).

    For a varint (wire type 0) `a` is its value; for all others the payload is `data[a:b]`.
    Errors: WireError for what protobuf's parsers refuse as well, and for groups, which Triton never sends.
    """
    while at < end:
        tag, at = read_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise WireError("field number 0")
        if wire == 2:
            size, at = read_varint(data, at, end)
            stop = at + size
        elif wire == 0:
            value, at = read_varint(data, at, end)
            yield number, wire, value, at
            continue
        elif wire == 5:
            stop = at + 4
        elif wire == 1:
            stop = at + 8
        else:
            raise WireError(f"wire type {wire}")
        if stop > end:
            raise WireError(f"field {number} is longer than its message")
        yield number, wire, at, stop
        at = stop


class InputTensor:
    """One input of a model, its header prebuilt. `dims` are the config's, without the batch dimension.

    A scalar is [1, 1] and a list of N [1, N] for a model with a batch dimension, [1] and [N] for one without.
    """

    __slots__ = ("_dims", "_headers", "_pack", "_prefix", "dtype", "header", "name")

    def __init__(self, name: str, dtype: str, dims: Sequence[int], *, batched: bool) -> None:
        if dtype not in _CODES and dtype != "BYTES":
            raise WireError(f"input '{name}' has type {dtype}, which the gateway cannot send")
        self.name = name
        self.dtype = dtype
        self._dims = ([1] if batched else []) + [max(dim, 1) for dim in dims]
        self._pack = struct.Struct("<2s" + _CODES[dtype]).pack if dtype != "BYTES" else None
        self._prefix = _RAW_TAG + bytes((struct.calcsize("<" + _CODES[dtype]),)) if dtype != "BYTES" else b""
        self._headers: dict[int, bytes] = {}
        self.header = self.list_header(1)

    def __repr__(self) -> str:
        return f"InputTensor({self.name} {self.dtype}{self._dims})"

    def list_header(self, size: int) -> bytes:
        """The InferInputTensor field of `size` elements along the last dimension."""
        header = self._headers.get(size)
        if header is None:
            header = self._make_header(size)
            if size <= _KEPT_HEADERS:
                self._headers[size] = header
        return header

    def _make_header(self, size: int) -> bytes:
        shape = b"".join(varint(dim) for dim in [*self._dims[:-1], size])
        body = field(1, self.name.encode()) + field(2, self.dtype.encode()) + field(3, shape)
        return field(_INPUTS, body)

    def scalar(self, value: float | bytes) -> bytes:
        """The raw_input_contents field of one element. Integers for unsigned types are taken modulo their
        width: a seed is a seed. Errors: WireError for a value that does not fit."""
        if self._pack is None:
            if isinstance(value, bytes):
                return _raw_bytes(value)
        elif not isinstance(value, bytes):
            try:
                if self.dtype[0] == "U":
                    return self._pack(self._prefix, int(value) % (1 << int(self.dtype[4:])))
                return self._pack(self._prefix, value)
            except (struct.error, OverflowError) as error:
                raise WireError(f"{self.name} is {value!r}, which no {self.dtype} holds") from error
        raise WireError(f"{self.name} takes {self.dtype}, not {type(value).__name__}")

    def strings(self, values: Sequence[bytes]) -> bytes:
        """The raw_input_contents field of a list of BYTES elements."""
        data = b"".join([len(value).to_bytes(4, "little") + value for value in values])
        return field(_RAW, data)


def _raw_bytes(value: bytes) -> bytes:
    size = len(value)
    total = size + 4
    length = bytes((total,)) if total < 128 else varint(total)
    return b"".join((_RAW_TAG, length, size.to_bytes(4, "little"), value))


class RequestTemplate:
    """The requests of one model: what never changes, prebuilt. `constants` are inputs with one value each."""

    __slots__ = ("_constant_values", "_head")

    def __init__(self, model: str, version: str, constants: Iterable[tuple[InputTensor, bytes]] = ()) -> None:
        pairs = list(constants)
        parameter = field(1, _EMPTY_FINAL.encode()) + field(2, b"\x08\x01")
        head = [field(_MODEL, model.encode())]
        if version:
            head.append(field(_VERSION, version.encode()))
        head.append(field(_PARAMETERS, parameter))
        head.extend(tensor.header for tensor, _ in pairs)
        self._head = b"".join(head)
        self._constant_values = b"".join(value for _, value in pairs)

    def encode(self, request_id: bytes, headers: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        """A ModelInferRequest; `headers` and `values` in the same order, one of each per tensor."""
        size = len(request_id)
        length = bytes((size,)) if size < 128 else varint(size)
        return b"".join((self._head, *headers, _ID_TAG, length, request_id, self._constant_values, *values))
