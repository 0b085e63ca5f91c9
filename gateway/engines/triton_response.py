"""Triton's responses without protobuf objects: any message, field by field.

The walk takes fields in any order, merges what protobuf merges, and brings tensors that come in `contents`
into the form of `raw_output_contents`, so that nothing above needs to know. `triton_reader` is the way for
messages that are like the one before; whatever is not goes this way, and the tests hold this way against
protobuf. Source: Triton's `grpc_service.proto` (ModelStreamInferResponse).
"""

from __future__ import annotations

import struct

from msgspec import Struct

from gateway.engines.triton_wire import WireError, read_varint, walk

# Fields of InferTensorContents by dtype: (field number, struct code of the tensor's elements).
_CONTENTS = {
    "BOOL": (1, "?"), "INT8": (2, "b"), "INT16": (2, "h"), "INT32": (2, "i"), "INT64": (3, "q"),
    "UINT8": (4, "B"), "UINT16": (4, "H"), "UINT32": (4, "I"), "UINT64": (5, "Q"),
    "FP32": (6, "f"), "FP64": (7, "d"),
}  # fmt: skip
_FIXED_SIZE = {6: 4, 7: 8}  # contents fields that are not varints


class Tensor(Struct, frozen=True, gc=False):
    """One output. `data` is in raw form however it came: little-endian, BYTES elements with their lengths."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Response(Struct, frozen=True, gc=False):
    """One ModelStreamInferResponse."""

    error: str
    id: str
    final: bool
    tensors: dict[str, Tensor]


class Output:
    """The header of one tensor. `contents` are the places of its typed contents, if it has any."""

    __slots__ = ("contents", "dtype", "name", "shape")

    def __init__(self) -> None:
        self.name = self.dtype = ""
        self.shape: list[int] = []
        self.contents: list[tuple[int, int]] = []


class _Infer:
    """The merged fields of all infer_response parts of one message (protobuf merges, so we do)."""

    __slots__ = ("final", "id", "outputs", "raws")

    def __init__(self) -> None:
        self.id = ""
        self.final = False
        self.outputs: list[Output] = []
        self.raws: list[bytes] = []


def parse_response(message: bytes) -> Response:
    """Reads any ModelStreamInferResponse. Errors: WireError."""
    error = ""
    infer = _Infer()
    for number, wire, at, end in walk(message, 0, len(message)):
        if wire == 2 and number == 1:
            error = _text(message, at, end)
        elif wire == 2 and number == 2:
            _read_infer(message, at, end, infer)
    return Response(error, infer.id, infer.final, _tensors(message, infer))


def elements(data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor in raw form. Errors: WireError."""
    out, at, end = [], 0, len(data)
    while at < end:
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if at > end or start > end:
            raise WireError("a BYTES element is longer than its tensor")
        out.append(data[start:at])
    return out


def first_element(data: bytes) -> bytes:
    """The first element of a BYTES tensor, b"" where it has none. Errors: WireError."""
    size = len(data)
    if size < 4:
        if size:
            raise WireError("a BYTES tensor of fewer than four bytes")
        return b""
    end = 4 + int.from_bytes(data[:4], "little")
    if end > size:
        raise WireError("a BYTES element is longer than its tensor")
    return data[4:end]


def _read_infer(data: bytes, at: int, end: int, into: _Infer) -> None:
    for number, wire, a, b in walk(data, at, end):
        if wire != 2:
            continue
        if number == 3:
            into.id = _text(data, a, b)
        elif number == 4:
            into.final = read_final(data, a, b, into.final)
        elif number == 5:
            into.outputs.append(read_output(data, a, b))
        elif number == 6:
            into.raws.append(data[a:b])


def read_final(data: bytes, at: int, end: int, before: bool) -> bool:
    # An entry of map<string, InferParameter>; of the parameter only bool_param matters.
    key, value = b"", (0, 0)
    parts: list[tuple[int, int]] = []
    for number, wire, a, b in walk(data, at, end):
        if wire == 2 and number == 1:
            key = data[a:b]
        elif wire == 2 and number == 2:
            parts.append((a, b))
    if key != b"triton_final_response":
        return before
    flag = False
    for value in parts:
        for number, wire, a, _ in walk(data, *value):
            if 1 <= number <= 5:  # the members of the oneof put each other out
                flag = number == 1 and wire == 0 and a != 0
    return flag


def read_output(data: bytes, at: int, end: int) -> Output:
    output = Output()
    for number, wire, a, b in walk(data, at, end):
        if number == 3:
            if wire == 0:
                output.shape.append(_signed(a))
            elif wire == 2:
                output.shape.extend(map(_signed, _packed(data, a, b)))
        elif wire == 2 and number == 1:
            output.name = _text(data, a, b)
        elif wire == 2 and number == 2:
            output.dtype = _text(data, a, b)
        elif wire == 2 and number == 5:
            output.contents.append((a, b))
    return output


def _tensors(data: bytes, infer: _Infer) -> dict[str, Tensor]:
    outputs, raws = infer.outputs, infer.raws
    if raws and len(raws) != len(outputs):
        raise WireError(f"{len(outputs)} outputs with {len(raws)} raw contents")
    tensors = {}
    for index, output in enumerate(outputs):
        raw = raws[index] if raws else _contents(data, output)
        tensors[output.name] = Tensor(output.dtype, tuple(output.shape), raw)
    return tensors


def _contents(data: bytes, output: Output) -> bytes:
    # Brings typed contents into the raw form, so that nothing above needs to know.
    if output.dtype == "BYTES":
        return b"".join(
            (b - a).to_bytes(4, "little") + data[a:b]
            for start, end in output.contents
            for number, wire, a, b in walk(data, start, end)
            if number == 8 and wire == 2
        )
    if output.dtype not in _CONTENTS:
        return b""
    wanted, code = _CONTENTS[output.dtype]
    fixed = _FIXED_SIZE.get(wanted, 0)
    numbers: list[int] = []
    raw = bytearray()
    for start, end in output.contents:
        for number, wire, a, b in walk(data, start, end):
            if number != wanted:
                continue
            if fixed:
                if wire != 0:
                    raw += data[a:b]
            elif wire == 0:
                numbers.append(a)
            elif wire == 2:
                numbers.extend(_packed(data, a, b))
    if fixed:
        if len(raw) % fixed:
            raise WireError(f"contents of '{output.name}' end within an element")
        return bytes(raw)
    width = 8 * struct.calcsize("<" + code)
    values = [_narrow(number, code, width) for number in numbers]
    return struct.pack(f"<{len(values)}{code}", *values)


def _narrow(number: int, code: str, width: int) -> int | bool:
    if code == "?":
        return number != 0
    number &= (1 << width) - 1
    return number - (1 << width) if code.islower() and number >> (width - 1) else number


def _packed(data: bytes, at: int, end: int) -> list[int]:
    numbers = []
    while at < end:
        number, at = read_varint(data, at, end)
        numbers.append(number)
    return numbers


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _text(data: bytes, at: int, end: int) -> str:
    return data[at:end].decode("utf-8", "replace")
