"""Triton's responses, read without protobuf objects.

Two ways lead through a ModelStreamInferResponse, and they agree (the tests say so against protobuf):

- `parse_response` walks every field, whatever the order, and takes tensors from `raw_output_contents` or
  from `contents`;
- `ResponseReader` knows that the messages of a stream are the same bytes but for the data at their end:
  model, version, id, then parameters and output headers, then the raw tensors. It compares the first two
  parts with what it saw before and cuts the tensors out. Whatever does not fit goes the first way.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from msgspec import Struct

from gateway.engines.triton_wire import WireError, field, read_varint, walk

_KNOWN_LAYOUTS = 16  # a model has three or four: shapes differ, the final flag differs
# Fields of InferTensorContents by dtype: (field number, struct code of the tensor's elements).
_CONTENTS = {
    "BOOL": (1, "?"), "INT8": (2, "b"), "INT16": (2, "h"), "INT32": (2, "i"), "INT64": (3, "q"),
    "UINT8": (4, "B"), "UINT16": (4, "H"), "UINT32": (4, "I"), "UINT64": (5, "Q"),
    "FP32": (6, "f"), "FP64": (7, "d"),
}  # fmt: skip
_FIXED_SIZE = {6: 4, 7: 8}  # contents fields that are not varints


class ModelError(Exception):
    """The engine answered with an error message. It may carry anything: not for callers' eyes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


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


class Layout(Struct, frozen=True, gc=False):
    """What a run of parameters and output headers means. Raw tensor k goes to `slots[k]`, -1 for nowhere."""

    final: bool
    slots: tuple[int, ...]


class _Output:
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
        self.outputs: list[_Output] = []
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


class Layouts:
    """What is known of one model's responses; shared by all its jobs. `wanted` are the outputs to cut out."""

    __slots__ = ("known", "model", "wanted")

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = tuple(wanted)
        self.model = b""  # the model and version fields, as this model's responses have them
        self.known: list[tuple[bytes, Layout]] = []

    def __repr__(self) -> str:
        return f"Layouts({len(self.known)} known of {', '.join(self.wanted)})"

    def learn(self, message: bytes) -> None:
        """Remember the layout of a message that was read the long way, if it has the usual order."""
        if message[0] != 0x12:
            return
        length, at = read_varint(message, 1, len(message))
        if at + length != len(message):
            return
        model_end = tail_start = tail_end = at
        order, outputs, final, plain = 1, [], False, True
        for number, wire, a, end in walk(message, at, len(message)):
            if number < order or wire != 2:
                plain = False
            order = number
            if number <= 2:
                model_end = end
            if number <= 3:
                tail_start = end
            if number <= 5:
                tail_end = end
            if number == 4:
                final = _final(message, a, end, final)
            elif number == 5:
                outputs.append(_read_output(message, a, end))
            elif number > 6:
                plain = False
        if plain and not any(output.contents for output in outputs):
            wanted = self.wanted
            slots = tuple(wanted.index(output.name) if output.name in wanted else -1 for output in outputs)
            if len(self.known) >= _KNOWN_LAYOUTS or self.model != message[at:model_end]:
                self.known.clear()
            self.model = message[at:model_end]
            entry = (message[tail_start:tail_end], Layout(final, slots))
            if entry not in self.known:
                self.known.append(entry)


class ResponseReader:
    """Reads the responses of one job. After `read`, `values` holds the wanted tensors in raw form, None where
    a response has none, and `final` says whether it was the last."""

    __slots__ = ("_head", "_id", "_layout", "_layouts", "_prefix", "final", "values")

    def __init__(self, layouts: Layouts, request_id: bytes) -> None:
        self._layouts = layouts
        self._id = field(3, request_id)
        self._head = layouts.model + self._id
        self._prefix = b""  # head and layout of the response before: most are like it
        self._layout: Layout | None = None
        self.final = False
        self.values: list[bytes | None] = []

    def read(self, message: bytes) -> None:
        """Errors: WireError for bytes that are no response; ModelError for an error message."""
        # The short way: 0x12, length, known head, known layout, tensors to the end.
        size = len(message)
        if size > 2 and message[0] == 0x12:
            at = 2
            length = message[1]
            if length > 127:
                length, at = read_varint(message, 1, size)
            if at + length == size:
                layout = self._layout
                if layout is None or not message.startswith(self._prefix, at):
                    layout = self._find_layout(message, at)
                if layout is not None and self._cut(message, at + len(self._prefix), size, layout):
                    return
        self._read_any(message)

    def _find_layout(self, message: bytes, at: int) -> Layout | None:
        head = self._head
        if message.startswith(head, at):
            start = at + len(head)
            for tail, layout in self._layouts.known:
                end = start + len(tail)
                # The tensors must follow: one run of headers may begin another.
                if message.startswith(tail, start) and message[end : end + 1] == (b"2" if layout.slots else b""):
                    self._prefix = head + tail
                    self._layout = layout
                    return layout
        return None

    def _cut(self, message: bytes, at: int, end: int, layout: Layout) -> bool:
        values: list[bytes | None] = [None] * len(self._layouts.wanted)
        for slot in layout.slots:
            if at + 2 > end or message[at] != 0x32:
                return False
            size = message[at + 1]
            at += 2
            if size > 127:
                size, at = read_varint(message, at - 1, end)
            start = at
            at += size
            if slot >= 0:
                values[slot] = message[start:at]
        if at != end:
            return False
        self.values = values
        self.final = layout.final
        return True

    def _read_any(self, message: bytes) -> None:
        response = parse_response(message)
        if response.error:
            raise ModelError(response.error)
        layouts = self._layouts
        tensors = response.tensors
        self.values = [tensors[name].data if name in tensors else None for name in layouts.wanted]
        self.final = response.final
        if message:
            layouts.learn(message)
            self._head = layouts.model + self._id
            self._layout = None


# ------------------------------------------------------------------ the long way


def _read_infer(data: bytes, at: int, end: int, into: _Infer) -> None:
    for number, wire, a, b in walk(data, at, end):
        if wire != 2:
            continue
        if number == 3:
            into.id = _text(data, a, b)
        elif number == 4:
            into.final = _final(data, a, b, into.final)
        elif number == 5:
            into.outputs.append(_read_output(data, a, b))
        elif number == 6:
            into.raws.append(data[a:b])


def _final(data: bytes, at: int, end: int, before: bool) -> bool:
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


def _read_output(data: bytes, at: int, end: int) -> _Output:
    output = _Output()
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


def _contents(data: bytes, output: _Output) -> bytes:
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
