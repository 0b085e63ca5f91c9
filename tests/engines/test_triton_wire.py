"""Requests cut by hand against protobuf's own parser."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from gateway.engines.triton_wire import InputTensor, RequestTemplate, WireError, read_varint, varint, walk

CODES = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "FP32": "f", "FP64": "d",
}  # fmt: skip


@given(st.integers(0, 2**64 - 1), st.binary(max_size=4))
def test_varints_come_back(number: int, behind: bytes) -> None:
    data = varint(number) + behind
    assert read_varint(data, 0, len(data)) == (number, len(data) - len(behind))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 10 + b"\x01", b"\xff" * 64])
def test_bad_varints_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_varint(data, 0, len(data))


@given(st.text(max_size=300), st.text(max_size=40), st.integers(-(2**31), 2**31 - 1), st.booleans())
def test_a_request_reads_as_protobuf_would(prompt: str, request_id: str, number: int, flag: bool) -> None:
    text = InputTensor("text_input", "BYTES", [1], batched=True)
    tokens = InputTensor("max_tokens", "INT32", [1], batched=True)
    stream = InputTensor("stream", "BOOL", [1], batched=True)
    constant = InputTensor("exclude_input_in_output", "BOOL", [1], batched=True)
    template = RequestTemplate("my model", "3", [(constant, constant.scalar(True))])
    data = template.encode(
        request_id.encode(),
        [text.header, tokens.header, stream.header],
        [text.scalar(prompt.encode()), tokens.scalar(number), stream.scalar(flag)],
    )

    expected = pb.ModelInferRequest(model_name="my model", model_version="3", id=request_id)
    expected.parameters["triton_enable_empty_final_response"].bool_param = True
    types = {"exclude_input_in_output": "BOOL", "text_input": "BYTES", "max_tokens": "INT32", "stream": "BOOL"}
    for name, dtype in types.items():
        expected.inputs.add(name=name, datatype=dtype, shape=[1, 1])
    raw = prompt.encode()
    expected.raw_input_contents.extend(
        [b"\1", struct.pack("<I", len(raw)) + raw, struct.pack("<i", number), bytes([flag])]
    )
    assert pb.ModelInferRequest.FromString(data) == expected


@pytest.mark.parametrize("size", [0, 1, 123, 124, 127, 128, 200, 16_379, 16_380, 70_000])
def test_lengths_around_the_steps_of_varints(size: int) -> None:
    text = InputTensor("text_input", "BYTES", [1], batched=False)
    data = RequestTemplate("m", "").encode(b"i" * (size % 300), [text.header], [text.scalar(b"x" * size)])
    read = pb.ModelInferRequest.FromString(data)
    assert read.id == "i" * (size % 300)
    assert read.model_version == ""
    assert read.inputs[0].shape == [1]
    assert read.raw_input_contents[0] == struct.pack("<I", size) + b"x" * size


@given(st.lists(st.binary(max_size=200), max_size=6), st.booleans())
def test_lists_of_strings(values: list[bytes], batched: bool) -> None:
    words = InputTensor("stop_words", "BYTES", [-1], batched=batched)
    data = RequestTemplate("m", "").encode(b"1", [words.list_header(len(values))], [words.strings(values)])
    read = pb.ModelInferRequest.FromString(data)
    assert read.inputs[0].shape == ([1, len(values)] if batched else [len(values)])
    assert read.raw_input_contents[0] == b"".join(struct.pack("<I", len(value)) + value for value in values)


@given(st.sampled_from(sorted(CODES)), st.data())
def test_numbers_of_every_type(dtype: str, data: st.DataObject) -> None:
    if dtype[0] == "F":
        value: float = data.draw(st.floats(width=int(dtype[2:]), allow_nan=False))
    elif dtype[0] == "U":
        value = data.draw(st.integers(0, 2 ** int(dtype[4:]) - 1))
    else:
        bits = int(dtype[3:])
        value = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    tensor = InputTensor("x", dtype, [1], batched=True)
    read = pb.ModelInferRequest.FromString(
        RequestTemplate("m", "").encode(b"", [tensor.header], [tensor.scalar(value)])
    )
    assert struct.unpack("<" + CODES[dtype], read.raw_input_contents[0]) == (value,)
    assert read.inputs[0].datatype == dtype


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("INT32", 2**31, "max_tokens is 2147483648, which no INT32 holds"),
        ("INT32", 1.5, "which no INT32 holds"),
        ("FP32", 1e300, "which no FP32 holds"),
        ("FP32", b"x", "takes FP32, not bytes"),
        ("BYTES", 1, "takes BYTES, not int"),
    ],
)
def test_values_that_do_not_fit(dtype: str, value: float | bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        InputTensor("max_tokens", dtype, [1], batched=True).scalar(value)


@pytest.mark.parametrize(("value", "sent"), [(-1, 2**64 - 1), (2**64 + 5, 5), (7, 7)])
def test_a_seed_is_taken_modulo_its_width(value: int, sent: int) -> None:
    assert InputTensor("seed", "UINT64", [1], batched=True).scalar(value)[2:] == struct.pack("<Q", sent)


def test_a_type_that_cannot_be_sent() -> None:
    with pytest.raises(WireError, match="lora_weights"):
        InputTensor("lora_weights", "FP16", [-1, -1], batched=True)


@given(st.binary(max_size=64))
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    try:
        fields = list(walk(data, 0, len(data)))
    except WireError:
        return
    assert len(fields) <= len(data)
