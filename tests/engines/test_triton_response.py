"""Responses read by hand against protobuf's own serialiser: the long way, the short way, hostile bytes."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from gateway.engines.triton_reader import Layouts, ModelError, ResponseReader
from gateway.engines.triton_response import elements, first_element, parse_response
from gateway.engines.triton_wire import WireError, field

WANTED = ("text_output", "finish_reason", "num_output_tokens")


def bytes_tensor(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def response(
    *tensors: tuple[str, str, list[int], bytes],
    request_id: str = "job-1",
    final: bool | None = None,
    version: str = "1",
) -> pb.ModelStreamInferResponse:
    message = pb.ModelStreamInferResponse()
    infer = message.infer_response
    infer.model_name, infer.model_version, infer.id = "ensemble", version, request_id
    if final is not None:
        infer.parameters["triton_final_response"].bool_param = final
    for name, dtype, shape, raw in tensors:
        infer.outputs.add(name=name, datatype=dtype, shape=shape)
        infer.raw_output_contents.append(raw)
    return message


def text(value: bytes, final: bool = False, request_id: str = "job-1") -> bytes:
    return response(
        ("text_output", "BYTES", [1], bytes_tensor(value)), final=final, request_id=request_id
    ).SerializeToString()


# ------------------------------------------------------------------ against protobuf

names = st.sampled_from(["text_output", "finish_reason", "num_output_tokens", "other", ""])
contents = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=3),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=3),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        "fp32_contents": st.lists(st.floats(width=32, allow_nan=False), max_size=3),
        "fp64_contents": st.lists(st.floats(allow_nan=False), max_size=3),
        "bytes_contents": st.lists(st.binary(max_size=200), max_size=3),
    },
)
CONTENTS = {
    "BOOL": ("bool_contents", "?"), "INT8": ("int_contents", "b"), "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"), "UINT32": ("uint_contents", "I"), "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"), "FP64": ("fp64_contents", "d"),
}  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> tuple[pb.ModelStreamInferResponse, bool]:
    """Any response, and whether its tensors are raw."""
    message = pb.ModelStreamInferResponse(error_message=draw(st.text(max_size=20)))
    infer = message.infer_response
    infer.model_name, infer.model_version, infer.id = (
        draw(st.text(max_size=200)),
        draw(st.text(max_size=3)),
        draw(st.text(max_size=9)),
    )
    for key in draw(st.lists(st.sampled_from(["triton_final_response", "sequence_id", ""]), unique=True)):
        parameter = infer.parameters[key]
        kind = draw(st.sampled_from(["bool_param", "int64_param", "string_param", "double_param", "uint64_param"]))
        setattr(
            parameter,
            kind,
            {"bool_param": draw(st.booleans()), "string_param": "1", "double_param": 1.5}.get(kind, 1),
        )
    raw = draw(st.booleans())
    for name in draw(st.lists(names, max_size=4, unique=True)):
        output = infer.outputs.add(name=name, datatype=draw(st.sampled_from(["BYTES", *CONTENTS])))
        output.shape.extend(draw(st.lists(st.integers(-1, 2**40), max_size=3)))
        if raw:
            infer.raw_output_contents.append(draw(st.binary(max_size=300)))
        else:
            for key, values in draw(contents).items():
                if key != "int_contents" or output.datatype != "INT8":
                    getattr(output.contents, key).extend(values)
                else:
                    output.contents.int_contents.extend(value % 128 for value in values)
    return message, raw


def expected_tensors(message: pb.ModelStreamInferResponse, raw: bool) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for index, output in enumerate(message.infer_response.outputs):
        if raw:
            data = message.infer_response.raw_output_contents[index]
        elif output.datatype == "BYTES":
            data = bytes_tensor(*output.contents.bytes_contents)
        else:
            attribute, code = CONTENTS[output.datatype]
            values: Any = getattr(output.contents, attribute)
            data = struct.pack(f"<{len(values)}{code}", *values)
        tensors[output.name] = (output.datatype, tuple(output.shape), data)
    return tensors


@given(messages())
def test_the_long_way_agrees_with_protobuf(drawn: tuple[pb.ModelStreamInferResponse, bool]) -> None:
    message, raw = drawn
    read = parse_response(message.SerializeToString())
    assert read.error == message.error_message
    assert read.id == message.infer_response.id
    final = message.infer_response.parameters.get("triton_final_response")
    assert read.final == (final is not None and final.bool_param)
    assert {name: (t.dtype, t.shape, t.data) for name, t in read.tensors.items()} == expected_tensors(message, raw)


@given(st.lists(messages(), min_size=1, max_size=6))
def test_the_short_way_agrees_with_the_long_way(
    drawn: list[tuple[pb.ModelStreamInferResponse, bool]],
) -> None:
    layouts = Layouts(WANTED)
    for message, _ in drawn:
        message.error_message = ""
        data = message.SerializeToString()
        for _ in range(2):  # the second time, the layout is known
            reader = ResponseReader(layouts, message.infer_response.id.encode())
            reader.read(data)
            long = parse_response(data)
            assert reader.final == long.final
            assert reader.values == [long.tensors[name].data if name in long.tensors else None for name in WANTED]


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans(), st.booleans()), max_size=12),
    st.text(max_size=200),
)
def test_a_stream_by_the_short_way(stream: list[tuple[bytes, bool, bool]], request_id: str) -> None:
    layouts = Layouts(WANTED)
    reader = ResponseReader(layouts, request_id.encode())
    for data, counted, final in stream:
        tensors = [("text_output", "BYTES", [1, 1], bytes_tensor(data))]
        if counted:
            tensors.append(("num_output_tokens", "INT32", [1, 1], struct.pack("<i", len(data))))
        reader.read(response(*tensors, request_id=request_id, final=final).SerializeToString())
        assert reader.values == [bytes_tensor(data), None, struct.pack("<i", len(data)) if counted else None]
        assert reader.final is final
    assert len(layouts.known) == len({(counted, final) for _, counted, final in stream})


def test_layouts_are_shared_by_the_jobs_of_a_model() -> None:
    layouts = Layouts(WANTED)
    ResponseReader(layouts, b"job-1").read(text(b"one"))
    other = ResponseReader(layouts, b"job-2")
    before = list(layouts.known)
    other.read(text(b"two", request_id="job-2"))
    assert other.values[0] == bytes_tensor(b"two")
    assert layouts.known == before
    assert repr(layouts) == "Layouts(1 known of text_output, finish_reason, num_output_tokens)"


def test_a_new_version_of_the_model_is_learnt_anew() -> None:
    layouts = Layouts(WANTED)
    reader = ResponseReader(layouts, b"job-1")
    for version in ("1", "2", "1"):
        message = response(("text_output", "BYTES", [1], bytes_tensor(b"x")), version=version).SerializeToString()
        reader.read(message)
        assert reader.values[0] == bytes_tensor(b"x")
        assert len(layouts.known) == 1


def test_layouts_do_not_grow_without_end() -> None:
    layouts = Layouts(WANTED)
    reader = ResponseReader(layouts, b"job-1")
    for size in range(1, 200):
        reader.read(response(("text_output", "BYTES", [size], bytes_tensor(*[b"x"] * size))).SerializeToString())
        assert elements(reader.values[0] or b"") == [b"x"] * size
        assert len(layouts.known) <= 16


def test_an_error_message_is_raised_with_its_text() -> None:
    reader = ResponseReader(Layouts(WANTED), b"job-1")
    message = pb.ModelStreamInferResponse(error_message="no such model")
    message.infer_response.id = "job-1"
    with pytest.raises(ModelError, match="no such model"):
        reader.read(message.SerializeToString())


def test_an_empty_final_response() -> None:
    reader = ResponseReader(Layouts(WANTED), b"job-1")
    for _ in range(2):
        reader.read(response(final=True).SerializeToString())
        assert reader.final
        assert reader.values == [None, None, None]


def test_parts_of_a_message_are_merged_as_protobuf_does() -> None:
    one = response(("text_output", "BYTES", [1], bytes_tensor(b"a")), final=True)
    two = pb.ModelStreamInferResponse()
    two.infer_response.id = "job-2"
    data = one.SerializeToString() + two.SerializeToString()
    read = parse_response(data)
    merged = pb.ModelStreamInferResponse.FromString(data)
    assert (read.id, read.final) == (merged.infer_response.id, True) == ("job-2", True)


# ------------------------------------------------------------------ hostile bytes

GOOD = text(b"hello", final=True)


@given(st.binary(max_size=400))
@example(b"\x12\x7f")
@example(b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80")
@example(b"\x12\x02\x32\xff")
@example(b"\x0b\x0c")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    reader = ResponseReader(Layouts(WANTED), b"job-1")
    with contextlib.suppress(WireError, ModelError):
        reader.read(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@settings(max_examples=500)
def test_one_bad_byte_is_read_or_refused(at: int, byte: int) -> None:
    layouts = Layouts(WANTED)
    reader = ResponseReader(layouts, b"job-1")
    reader.read(GOOD)  # the short way is open
    bad = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    try:
        reader.read(bad)
    except (WireError, ModelError):
        return
    long = parse_response(bad)
    assert reader.values == [long.tensors[name].data if name in long.tensors else None for name in WANTED]


@pytest.mark.parametrize("size", range(1, len(GOOD)))
def test_every_cut_is_refused(size: int) -> None:
    reader = ResponseReader(Layouts(WANTED), b"job-1")
    reader.read(GOOD)
    with pytest.raises(WireError):
        reader.read(GOOD[:size])


def test_raw_contents_that_do_not_match_the_outputs() -> None:
    message = response(("text_output", "BYTES", [1], b""), ("finish_reason", "BYTES", [1], b""))
    message.infer_response.raw_output_contents.pop()
    with pytest.raises(WireError, match="2 outputs with 1 raw"):
        parse_response(message.SerializeToString())


@pytest.mark.parametrize("data", [b"\1", b"\1\0\0", b"\5\0\0\0abc", b"\xff\xff\xff\xffabc", b"\1\0\0\0a\2\0"])
def test_bad_bytes_tensors(data: bytes) -> None:
    with pytest.raises(WireError):
        elements(data)


@pytest.mark.parametrize("data", [b"\1", b"\1\0\0", b"\5\0\0\0abc", b"\xff\xff\xff\xffabc"])
def test_a_bad_first_element(data: bytes) -> None:
    with pytest.raises(WireError):
        first_element(data)


def test_elements() -> None:
    assert elements(b"") == []
    assert elements(bytes_tensor(b"", b"a", b"bc")) == [b"", b"a", b"bc"]
    assert first_element(b"") == b""
    assert first_element(bytes_tensor(b"a", b"bc")) == b"a"


def test_contents_that_end_within_an_element() -> None:
    output = field(1, b"x") + field(2, b"FP32") + field(5, field(6, b"\0\0\0"))
    with pytest.raises(WireError, match="within an element"):
        parse_response(field(2, field(5, output)))


def test_unknown_fields_are_skipped() -> None:
    message = GOOD + field(15, b"new") + b"\xf8\x01\x05" + b"\x9d\x06abcd" + b"\x99\x06abcdefgh"
    assert parse_response(message).tensors["text_output"].data == bytes_tensor(b"hello")
