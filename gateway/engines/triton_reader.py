"""Triton's responses, the short way: the messages of a stream are the same bytes but for the data at their end.

Model, version and id come first, then parameters and output headers (the layout), then the raw tensors. The
reader compares the first two parts with what it saw before and cuts the tensors out. It learns every layout
from a message that was read field by field (`triton_response`), and whatever does not fit goes that way.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from msgspec import Struct

from gateway.engines.triton_response import parse_response, read_final, read_output
from gateway.engines.triton_wire import field, read_varint, walk

_LENGTH = struct.Struct("<I").unpack_from
_KNOWN_LAYOUTS = 16  # a model has three or four: shapes differ, the final flag differs


class ModelError(Exception):
    """The engine answered with an error message. It may carry anything: not for callers' eyes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Layout(Struct, frozen=True, gc=False):
    """What a run of parameters and output headers means. Raw tensor k goes to `slots[k]`, -1 for nowhere."""

    final: bool
    slots: tuple[int, ...]


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
                final = read_final(message, a, end, final)
            elif number == 5:
                outputs.append(read_output(message, a, end))
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

    __slots__ = ("_after", "_before", "_head", "_id", "_layout", "_layouts", "_prefix", "final", "values")

    def __init__(self, layouts: Layouts, request_id: bytes) -> None:
        self._layouts = layouts
        self._id = field(3, request_id)
        self._head = layouts.model + self._id
        self._prefix = b""  # head and layout of the response before: most are like it
        self._layout: Layout | None = None
        self._before = b""  # what stood around the text in the response before, lengths aside; b"" where unknown
        self._after = b""
        self.final = False
        self.values: list[bytes | None] = []

    def read_text(self, message: bytes) -> bytes | None:
        """The text, not empty, of a response that differs in nothing else from the one before; None for any other.

        A token costs little more than these comparisons.
        """
        before, size = self._before, len(message)
        if not before or size > 16_000 or message[0] != 0x12:
            return None
        if size < 130:
            at, length = 2, message[1]
        else:
            at, length = 3, message[1] - 128 | message[2] << 7
        if length != size - at or not message.startswith(before, at) or not message.endswith(self._after):
            return None
        start = at + len(before)
        end = size - len(self._after)
        length = end - start - 1  # of the tensor: four bytes of the text's own length, and the text
        if not 5 <= length < 128 or message[start] != length or _LENGTH(message, start + 1)[0] != length - 4:
            return None
        return message[start + 5 : end]

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
                if layout is not None and self._cut(message, at, size, layout):
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

    def _cut(self, message: bytes, begin: int, end: int, layout: Layout) -> bool:
        values: list[bytes | None] = [None] * len(self._layouts.wanted)
        at = begin + len(self._prefix)
        text_from = text_to = 0
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
                if slot == 0:
                    text_from, text_to = start, at
        if at != end:
            return False
        self.values = values
        self.final = layout.final
        if not layout.final and 0 < text_to - text_from < 128:
            self._before = message[begin : text_from - 1]
            self._after = message[text_to:]
        else:
            self._before = b""
        return True

    def _read_any(self, message: bytes) -> None:
        self._before = b""
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
