"""The contracts by table: which model is whose, what is sent, what is read, what is refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from msgspec.structs import replace
from tritonclient.grpc import service_pb2 as pb

from gateway.core.answer import TokenLogprob
from gateway.core.errors import BadRequest, EngineError, EngineTimeout, Unsupported
from gateway.core.request import Guide, Sampling
from gateway.engines.base import GUIDE_FEATURES, SAMPLING_FEATURES, Job, Result
from gateway.engines.contracts.binding import BindError, Binding, asked, check
from gateway.engines.contracts.registry import CONTRACTS, bind, find_contract
from gateway.engines.scripted import Chunk
from gateway.engines.triton_interface import ModelInterface, TensorSpec
from gateway.routing.version import SamplingDefaults, Version

VERSION = Version(endpoint="chat", name="v1", model="m", defaults=SamplingDefaults(max_tokens=99))
CODES = {"BOOL": "?", "INT32": "i", "UINT64": "Q", "FP32": "f"}


def tensors(declared: str, *, optional: bool = True) -> dict[str, TensorSpec]:
    """ "name:TYPE name:TYPE[]" → specs; [] marks a list."""
    specs = {}
    for word in declared.split():
        name, _, dtype = word.partition(":")
        listed = dtype.endswith("[]")
        specs[name] = TensorSpec(dtype.removesuffix("[]"), (-1,) if listed else (1,), optional)
    return specs


SAMPLING = (
    "top_k:INT32 top_p:FP32 temperature:FP32 repetition_penalty:FP32 min_tokens:INT32 presence_penalty:FP32 "
    "frequency_penalty:FP32 seed:UINT64"
)
STOCK_INPUTS = tensors("text_input:BYTES max_tokens:INT32", optional=False) | tensors(
    f"bad_words:BYTES[] stop_words:BYTES[] exclude_input_in_output:BOOL end_id:INT32 {SAMPLING} beam_width:INT32 "
    "return_log_probs:BOOL return_num_input_tokens:BOOL return_num_output_tokens:BOOL stream:BOOL "
    "guided_decoding_guide_type:BYTES guided_decoding_guide:BYTES"
)
STOCK_OUTPUTS = tensors("text_output:BYTES[] output_log_probs:FP32[] num_input_tokens:INT32 num_output_tokens:INT32")

ENSEMBLE = ModelInterface(
    "ensemble", "", STOCK_INPUTS, STOCK_OUTPUTS, max_batch_size=64, platform="ensemble",
    steps=("preprocessing", "tensorrt_llm", "postprocessing"),
)  # fmt: skip
BLS = replace(ENSEMBLE, name="tensorrt_llm_bls", platform="", backend="python", decoupled=True, steps=())
ASSISTANT = ModelInterface(
    "assistant", "", STOCK_INPUTS, STOCK_OUTPUTS | tensors("finish_reason:BYTES[] output_tokens:BYTES[]"),
    max_batch_size=64, decoupled=True, backend="python",
)  # fmt: skip
LLMAPI = ModelInterface(
    "tensorrt_llm",
    "",
    tensors("text_input:BYTES[]", optional=False)
    | tensors(
        "streaming:BOOL sampling_param_temperature:FP32 sampling_param_top_k:INT32 sampling_param_top_p:FP32 "
        "sampling_param_frequency_penalty:FP32 sampling_param_presence_penalty:FP32 sampling_param_max_tokens:INT32 "
        "sampling_param_stop:BYTES[] sampling_param_seed:UINT64 sampling_param_exclude_input_from_output:BOOL "
        "return_finish_reason:BOOL return_stop_reason:BOOL stop:BOOL"
    ),
    tensors("text_output:BYTES[] finish_reason:BYTES[] stop_reason:BYTES[]"),
    decoupled=True,
    backend="python",
)
ENGINE = ModelInterface(
    "tensorrt_llm",
    "",
    tensors("input_lengths:INT32 request_output_len:INT32", optional=False) | tensors("input_ids:INT32[] stop:BOOL"),
    {},
    max_batch_size=64,
    decoupled=True,
)
ALL = {"assistant": ASSISTANT, "ensemble": ENSEMBLE, "bls": BLS, "llmapi": LLMAPI}


def bound(interface: ModelInterface, version: Version = VERSION, *companions: ModelInterface) -> Binding:
    return bind(interface, version, {model.name: model for model in companions})


def a_job(guide: Guide | None = None, stream: bool = True, prompt: str = "Hi", **sampling: Any) -> Job:
    sampling.setdefault("max_tokens", 8)
    return Job("job-1", prompt, Sampling(**sampling), guide, stream)


def sent(binding: Binding, job: Job) -> dict[str, Any]:
    """The values of a request's tensors, as protobuf reads them; the prompt and constants too."""
    request = pb.ModelInferRequest.FromString(binding.encode(job))
    assert request.id == job.id
    assert request.parameters["triton_enable_empty_final_response"].bool_param
    assert len(request.inputs) == len(request.raw_input_contents)
    values: dict[str, Any] = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        assert tensor.name not in values
        if tensor.datatype == "BYTES":
            strings, at = [], 0
            while at < len(raw):
                size = int.from_bytes(raw[at : at + 4], "little")
                strings.append(raw[at + 4 : at + 4 + size].decode())
                at += 4 + size
            values[tensor.name] = strings if tensor.name in ("stop_words", "sampling_param_stop") else strings[0]
            assert tensor.shape[-1] == len(strings)
        else:
            [values[tensor.name]] = struct.unpack("<" + CODES[tensor.datatype], raw)
        assert len(tensor.shape) == (2 if request.model_name != "tensorrt_llm" else 1)
    return values


def answer(final: bool = False, **outputs: Any) -> bytes:
    """A response: str or bytes are BYTES, int is INT32, lists are FP32, or BYTES if of strings."""
    message = pb.ModelStreamInferResponse()
    infer = message.infer_response
    infer.model_name, infer.model_version, infer.id = "m", "1", "job-1"
    infer.parameters["triton_final_response"].bool_param = final
    for name, value in outputs.items():
        if isinstance(value, int):
            dtype, raw, size = "INT32", struct.pack("<i", value), 1
        elif isinstance(value, list) and all(isinstance(item, float) for item in value):
            dtype, raw, size = "FP32", struct.pack(f"<{len(value)}f", *value), len(value)
        else:
            items = [
                item.encode() if isinstance(item, str) else item
                for item in (value if isinstance(value, list) else [value])
            ]
            dtype, raw, size = "BYTES", b"".join(struct.pack("<I", len(item)) + item for item in items), len(items)
        infer.outputs.add(name=name, datatype=dtype, shape=[1, size])
        infer.raw_output_contents.append(raw)
    return message.SerializeToString()


def read(binding: Binding, job: Job, *responses: bytes) -> tuple[list[Chunk | None], Result]:
    reader = binding.reader(job)
    chunks = []
    for response in responses:
        text = reader.read(response)
        chunks.append(Chunk(text, reader.logprobs) if text or reader.logprobs else None)
    assert reader.ended
    return chunks, reader.result()


def texts(chunks: list[Chunk | None]) -> list[str]:
    return [chunk.text if chunk is not None else "" for chunk in chunks]


# ------------------------------------------------------------------ whose model is it


@pytest.mark.parametrize(
    ("model", "contract"),
    [
        ("assistant", "penstock"),
        ("ensemble", "trtllm-ensemble"),
        ("bls", "trtllm-ensemble"),
        ("llmapi", "trtllm-llmapi"),
    ],
)
def test_each_model_has_its_contract(model: str, contract: str) -> None:
    assert find_contract(ALL[model]).name == contract
    assert bound(ALL[model]).contract == contract
    assert bound(ALL[model]).model == ALL[model].name


def test_every_contract_is_met_by_some_model() -> None:
    assert {contract.name for contract in CONTRACTS} == {find_contract(model).name for model in ALL.values()}


def test_a_model_without_a_contract() -> None:
    with pytest.raises(
        BindError, match=r"model 'tensorrt_llm' speaks no contract of ours .*inputs are input_ids, input_lengths"
    ):
        find_contract(ENGINE)


def test_a_required_input_that_nobody_fills() -> None:
    inputs = {**STOCK_INPUTS, "image": TensorSpec("BYTES", (1,))}
    with pytest.raises(BindError, match="model 'ensemble' requires inputs that the gateway does not send: image"):
        bound(replace(ENSEMBLE, inputs=inputs))


def test_an_input_of_a_type_that_cannot_be_sent() -> None:
    with pytest.raises(BindError, match="temperature"):
        bound(replace(ENSEMBLE, inputs={**STOCK_INPUTS, "temperature": TensorSpec("FP16", (1,), True)}))


# ------------------------------------------------------------------ features

EVERYTHING = frozenset(SAMPLING_FEATURES) | frozenset(GUIDE_FEATURES)


@pytest.mark.parametrize(
    ("model", "lacks"),
    [
        ("assistant", set()),
        ("ensemble", set()),
        ("bls", set()),
        ("llmapi", {"logprobs", "min_tokens", "repetition_penalty", *GUIDE_FEATURES}),
    ],
)
def test_features_are_what_the_tensors_allow(model: str, lacks: set[str]) -> None:
    assert bound(ALL[model]).features == EVERYTHING - lacks


def without(interface: ModelInterface, *names: str) -> ModelInterface:
    return replace(
        interface,
        inputs={name: spec for name, spec in interface.inputs.items() if name not in names},
        outputs={name: spec for name, spec in interface.outputs.items() if name not in names},
    )


@pytest.mark.parametrize(
    ("missing", "lacks"),
    [
        ("seed", {"seed"}),
        ("return_log_probs", {"logprobs"}),
        ("output_log_probs", {"logprobs"}),
        ("guided_decoding_guide", set(GUIDE_FEATURES)),
        ("guided_decoding_guide_type", set(GUIDE_FEATURES)),
    ],
)
def test_what_is_not_declared_is_no_feature(missing: str, lacks: set[str]) -> None:
    assert bound(without(ENSEMBLE, missing)).features == EVERYTHING - lacks


def test_no_logprobs_without_streaming() -> None:
    assert "logprobs" not in bound(replace(BLS, decoupled=False)).features


@pytest.mark.parametrize(
    ("backend", "guides"), [({"guided_decoding_backend": "${guided_decoding_backend}"}, False),
                            ({"guided_decoding_backend": ""}, False),
                            ({"guided_decoding_backend": "xgrammar"}, True), ({}, True)],
)  # fmt: skip
def test_guides_need_a_backend_in_the_engine(backend: dict[str, str], guides: bool) -> None:
    binding = bound(ENSEMBLE, VERSION, replace(ENGINE, parameters=backend))
    assert ("guide:json_schema" in binding.features) is guides


# ------------------------------------------------------------------ requests

CONSTANTS = {"exclude_input_in_output": True, "return_num_input_tokens": True, "return_num_output_tokens": True}
PLAIN = {"text_input": "Hi", "max_tokens": 8, "stream": True, **CONSTANTS}
LLMAPI_PLAIN = {
    "text_input": "Hi", "sampling_param_max_tokens": 8, "streaming": True,
    "sampling_param_exclude_input_from_output": True, "return_finish_reason": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("sampling", "assistant", "stock", "llmapi"),
    [
        ({}, {}, {}, {}),
        # values that change nothing
        (
            {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_tokens": 0, "top_k": 0},
            {}, {}, {},
        ),
        ({"top_p": 1.0}, {}, {"top_p": 1.0}, {"top_p": 1.0}),
        # a temperature alone changes nothing in TensorRT-LLM
        ({"temperature": 0.5}, {"temperature": 0.5}, *[{"temperature": 0.5, "top_p": 1.0}] * 2),
        ({"temperature": 0.5, "top_k": 7}, *[{"temperature": 0.5, "top_k": 7}] * 3),
        ({"temperature": 0.5, "top_p": 0.25}, *[{"temperature": 0.5, "top_p": 0.25}] * 3),
        # greedy, whatever else was asked of the draw
        ({"temperature": 0.0}, {"temperature": 0.0}, {"top_k": 1}, {"top_k": 1}),
        (
            {"temperature": 0, "top_p": 0.5, "top_k": 9, "seed": 5, "presence_penalty": 0.5},
            {"temperature": 0.0, "presence_penalty": 0.5},
            {"top_k": 1, "presence_penalty": 0.5},
            {"top_k": 1, "presence_penalty": 0.5},
        ),
        ({"seed": 5}, *[{"seed": 5}] * 3),
        ({"seed": -1}, *[{"seed": 2**64 - 1}] * 3),
        (
            {"frequency_penalty": -2.0, "presence_penalty": 1.5},
            *[{"frequency_penalty": -2.0, "presence_penalty": 1.5}] * 3,
        ),
        ({"min_tokens": 3, "repetition_penalty": 1.5}, *[{"min_tokens": 3, "repetition_penalty": 1.5}] * 2, None),
        ({"stop": ("\n", "é")}, *[{"stop_words": ["\n", "é"]}] * 2, {}),
        ({"logprobs": True}, *[{"return_log_probs": True}] * 2, None),
    ],
)  # fmt: skip
def test_what_is_sent(sampling: Any, assistant: Any, stock: Any, llmapi: Any) -> None:
    job = a_job(**sampling)
    assert sent(bound(ASSISTANT), job) == {**PLAIN, **assistant}
    assert sent(bound(ENSEMBLE), job) == {**PLAIN, **stock}
    assert sent(bound(BLS), job) == {**PLAIN, **stock}
    if llmapi is None:
        with pytest.raises(Unsupported):
            check(bound(LLMAPI), job.sampling, None)
    else:
        assert sent(bound(LLMAPI), job) == {
            **LLMAPI_PLAIN,
            **{f"sampling_param_{name}": v for name, v in llmapi.items()},
        }


@pytest.mark.parametrize(
    ("guide", "expected"),
    [
        (Guide("json_object"), {"guided_decoding_guide_type": "json"}),
        (
            Guide("json_schema", '{"a":1}'),
            {"guided_decoding_guide_type": "json_schema", "guided_decoding_guide": '{"a":1}'},
        ),
        (Guide("regex", "[a-z]+"), {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "[a-z]+"}),
        (
            Guide("grammar", "root ::= 1"),
            {"guided_decoding_guide_type": "ebnf_grammar", "guided_decoding_guide": "root ::= 1"},
        ),
    ],
)
@pytest.mark.parametrize("model", ["assistant", "ensemble", "bls"])
def test_guides(model: str, guide: Guide, expected: dict[str, Any]) -> None:
    assert sent(bound(ALL[model]), a_job(guide)) == {**PLAIN, **expected}


@pytest.mark.parametrize("model", list(ALL))
def test_not_streaming(model: str) -> None:
    key = "streaming" if model == "llmapi" else "stream"
    binding = bound(ALL[model])
    assert sent(binding, a_job(stream=False))[key] is False
    if model == "llmapi":  # only the gateway looks for stop strings: it must hear the text as it comes
        assert sent(binding, a_job(stream=False, stop=("x",)))[key] is True
    else:
        assert sent(binding, a_job(stream=False, stop=("x",)))[key] is False
        assert sent(binding, a_job(stream=False, logprobs=True))[key] is True


def test_a_model_that_cannot_stream_is_not_asked_to() -> None:
    assert "streaming" not in sent(bound(replace(LLMAPI, decoupled=False)), a_job())
    assert "stream" not in sent(bound(replace(BLS, decoupled=False)), a_job())


def test_only_declared_inputs_are_sent() -> None:
    bare = without(ENSEMBLE, *(name for name, spec in STOCK_INPUTS.items() if spec.optional))
    assert sent(bound(bare), a_job(stop=("x",))) == {"text_input": "Hi", "max_tokens": 8}


def test_the_default_of_max_tokens() -> None:
    assert sent(bound(ENSEMBLE), a_job(max_tokens=None))["max_tokens"] == 99


def test_the_version_of_the_model() -> None:
    binding = bound(ENSEMBLE, replace(VERSION, model_version="3"))
    request = pb.ModelInferRequest.FromString(binding.encode(a_job()))
    assert (request.model_name, request.model_version) == ("ensemble", "3")


@pytest.mark.parametrize("sampling", [{"top_k": 2**31}, {"min_tokens": 2**40}, {"temperature": 1e300}])
def test_a_value_out_of_range_is_the_callers_error(sampling: Any) -> None:
    with pytest.raises(BadRequest, match=f"out of range: {next(iter(sampling))} is"):
        bound(ENSEMBLE).encode(a_job(**sampling))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("sampling", "guide", "param"),
    [
        ({"temperature": 0.5}, None, "temperature"),
        ({"temperature": 0.0}, None, "temperature"),
        ({"top_p": 0.5}, None, "top_p"),
        ({"top_k": 5}, None, "top_k"),
        ({"seed": 1}, None, "seed"),
        ({"min_tokens": 1}, None, "min_tokens"),
        ({"presence_penalty": 0.1}, None, "presence_penalty"),
        ({"frequency_penalty": 0.1}, None, "frequency_penalty"),
        ({"repetition_penalty": 1.1}, None, "repetition_penalty"),
        ({"logprobs": True}, None, "logprobs"),
        ({}, Guide("json_object"), "response_format"),
        ({}, Guide("json_schema", "{}"), "response_format"),
        ({}, Guide("regex", "a"), "response_format"),
    ],
)
def test_what_a_model_cannot_honour_is_refused_by_name(sampling: Any, guide: Guide | None, param: str) -> None:
    bare = without(ENSEMBLE, *(name for name, spec in STOCK_INPUTS.items() if spec.optional))
    with pytest.raises(Unsupported) as caught:
        check(bound(bare), Sampling(**sampling), guide)
    assert caught.value.param == param
    for part in (
        "chat@v1",
        "ensemble",
        "trtllm-ensemble",
        param if param != "response_format" else str(guide and guide.kind),
    ):
        assert part in caught.value.message
    check(bound(ENSEMBLE), Sampling(**sampling), guide)


def test_what_changes_nothing_is_no_request() -> None:
    bare = without(ENSEMBLE, *(name for name, spec in STOCK_INPUTS.items() if spec.optional))
    neutral = Sampling(
        max_tokens=5, min_tokens=0, top_p=1.0, top_k=0, presence_penalty=0.0, frequency_penalty=0.0,
        repetition_penalty=1.0, stop=("x",),
    )  # fmt: skip
    check(bound(bare), neutral, None)
    assert asked(neutral) == []


def test_greedy_needs_a_way_to_be_greedy() -> None:
    check(bound(without(ENSEMBLE, "temperature")), Sampling(temperature=0.0), None)
    check(bound(without(ENSEMBLE, "top_k")), Sampling(temperature=0.0, seed=1), None)
    assert sent(bound(without(ENSEMBLE, "top_k")), a_job(temperature=0.0))["temperature"] == 0.0


def test_a_seeded_version_needs_a_seed_input() -> None:
    seeded = replace(VERSION, determinism="seeded")
    bound(ENSEMBLE, seeded)
    with pytest.raises(BindError, match=r"chat@v1 is 'seeded', but its model .*has no seed input"):
        bound(without(ENSEMBLE, "seed"), seeded)


# ------------------------------------------------------------------ answers


@pytest.mark.parametrize("model", ["assistant", "ensemble", "bls"])
def test_a_stream_of_deltas(model: str) -> None:
    chunks, result = read(
        bound(ALL[model]),
        a_job(),
        answer(text_output="Hel", num_input_tokens=5, num_output_tokens=1),
        answer(text_output="lo", num_input_tokens=5, num_output_tokens=2),
        answer(final=True),
    )
    assert texts(chunks) == ["Hel", "lo", ""]
    assert result == Result("stop", 5, 3)


@pytest.mark.parametrize(("count", "finish"), [(3, "stop"), (4, "length"), (5, "length")])
def test_length_is_inferred_from_the_count(count: int, finish: str) -> None:
    _, result = read(
        bound(ENSEMBLE),
        a_job(max_tokens=4),
        answer(text_output="a", num_output_tokens=1),
        answer(text_output="b", num_output_tokens=count - 1, final=True),
    )
    assert result == Result(finish, None, count)  # type: ignore[arg-type]


def test_length_without_counts_is_a_response_per_token() -> None:
    responses = [answer(text_output="a"), answer(text_output="b"), answer(final=True)]
    assert read(bound(ENSEMBLE), a_job(max_tokens=2), *responses)[1] == Result("length", None, None)
    assert read(bound(ENSEMBLE), a_job(max_tokens=3), *responses)[1] == Result("stop", None, None)
    assert read(bound(ENSEMBLE), a_job(max_tokens=1, stream=False), *responses[1:])[1] == Result("stop", None, None)


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_finish_that_is_told_wins(reason: str) -> None:
    message = answer(text_output="a", finish_reason=reason, num_input_tokens=1, num_output_tokens=8, final=True)
    assert read(bound(ASSISTANT), a_job(), message)[1] == Result(reason, 1, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("before", ["", "None", "whatever"])
def test_a_finish_in_mid_stream_says_nothing(before: str) -> None:
    _, result = read(
        bound(LLMAPI),
        a_job(),
        answer(text_output="a", finish_reason=before),
        answer(text_output="ab", finish_reason="length", final=True),
    )
    assert result == Result("length", None, None)


@pytest.mark.parametrize(("reason", "error"), [("timeout", EngineTimeout), ("cancelled", EngineError)])
def test_a_finish_that_is_a_failure(reason: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(bound(LLMAPI), a_job(), answer(text_output="a", finish_reason=reason, final=True))


@pytest.mark.parametrize("model", list(ALL))
def test_nothing_but_a_final_flag(model: str) -> None:
    chunks, result = read(bound(ALL[model]), a_job(), answer(final=True))
    assert chunks == [None]
    assert result == Result("stop", None, None)


@pytest.mark.parametrize("model", list(ALL))
def test_one_response_for_all(model: str) -> None:
    chunks, result = read(bound(ALL[model]), a_job(stream=False), answer(text_output="Hello 🙂", final=True))
    assert texts(chunks) == ["Hello 🙂"]
    assert result.finish == "stop"


@pytest.mark.parametrize("model", ["assistant", "ensemble"])
def test_split_characters(model: str) -> None:
    smile = "🙂".encode()
    chunks, _ = read(
        bound(ALL[model]),
        a_job(),
        answer(text_output=b"a" + smile[:1]),
        answer(text_output=smile[1:3]),
        answer(text_output=smile[3:] + b"b" + smile[:2]),
        answer(final=True),
    )
    assert texts(chunks) == ["a", "", "🙂b", "\ufffd"]


def test_bls_that_accumulates_is_cumulative_in_a_stream() -> None:
    binding = bound(replace(BLS, parameters={"accumulate_tokens": "true"}))
    pieces = [answer(text_output=text, num_output_tokens=1) for text in ("a", "a\ufffd", "aé")]
    chunks, result = read(binding, a_job(), *pieces, answer(final=True))
    assert texts(chunks) == ["a", "", "é", ""]
    assert result.completion_tokens == 3
    assert texts(read(binding, a_job(stream=False), answer(text_output="a\ufffd", final=True))[0]) == ["a\ufffd"]


@pytest.mark.parametrize("value", ["${accumulate_tokens}", "false", ""])
def test_bls_that_does_not_accumulate(value: str) -> None:
    binding = bound(replace(BLS, parameters={"accumulate_tokens": value}))
    chunks, _ = read(binding, a_job(), answer(text_output="a"), answer(text_output="ab", final=True))
    assert texts(chunks) == ["a", "ab"]


def test_llmapi_is_cumulative_until_it_is_not() -> None:
    binding = bound(LLMAPI)
    chunks, _ = read(binding, a_job(), answer(text_output="Once"), answer(text_output="Once up"), answer(final=True))
    assert texts(chunks) == ["Once", " up", ""]
    binding = bound(LLMAPI)
    chunks, _ = read(binding, a_job(), answer(text_output="Once"), answer(text_output=" up"), answer(final=True))
    assert texts(chunks) == ["Once", " up", ""]


def test_a_version_can_say_how_its_model_streams() -> None:
    messages = [answer(text_output="1"), answer(text_output="12", final=True)]
    delta = bound(LLMAPI, replace(VERSION, text_mode="delta"))
    assert texts(read(delta, a_job(), *messages)[0]) == ["1", "12"]
    cumulative = bound(ENSEMBLE, replace(VERSION, text_mode="cumulative"))
    assert texts(read(cumulative, a_job(), *messages)[0]) == ["1", "2"]


@pytest.mark.parametrize(
    ("model", "tensor"),
    [
        ("assistant", "exclude_input_in_output"),
        ("ensemble", "exclude_input_in_output"),
        ("llmapi", "sampling_param_exclude_input_from_output"),
    ],
)
def test_an_echo_is_taken_off_where_it_cannot_be_switched_off(model: str, tensor: str) -> None:
    messages = [answer(text_output="Hi"), answer(text_output="Hi, you" if model == "llmapi" else ", you", final=True)]
    assert texts(read(bound(without(ALL[model], tensor)), a_job(), *messages)[0]) == ["", ", you"]
    assert texts(read(bound(ALL[model]), a_job(), *messages)[0]) == ["Hi", ", you"]


def test_an_engine_that_never_echoes() -> None:
    quiet = replace(ENGINE, parameters={"exclude_input_in_output": "true"})
    binding = bound(without(ENSEMBLE, "exclude_input_in_output"), VERSION, quiet)
    assert texts(read(binding, a_job(), answer(text_output="Hi, you", final=True))[0]) == ["Hi, you"]


def test_logprobs_are_one_per_response() -> None:
    chunks, _ = read(
        bound(ENSEMBLE),
        a_job(logprobs=True),
        answer(text_output="a", output_log_probs=[-0.5]),
        answer(text_output="bc", output_log_probs=[-1.0, -0.25]),
        answer(text_output="d", output_log_probs=[-9.0, -8.0, -2.0], num_output_tokens=1),  # all so far
        answer(final=True),
    )
    assert [chunk and chunk.logprobs for chunk in chunks] == [
        (TokenLogprob("a", -0.5),),
        (TokenLogprob("bc", -1.25),),
        (TokenLogprob("d", -2.0),),
        None,
    ]


def test_logprobs_are_one_per_token_where_the_model_tells_tokens_apart() -> None:
    message = answer(text_output="ab", output_log_probs=[-0.5, -1.0], output_tokens=["a", "b"], final=True)
    [chunk], _ = read(bound(ASSISTANT), a_job(logprobs=True), message)
    assert chunk == Chunk("ab", (TokenLogprob("a", -0.5), TokenLogprob("b", -1.0)))
    message = answer(text_output="ab", output_log_probs=[-0.5, -1.0], output_tokens=["a"], final=True)
    [chunk], _ = read(bound(ASSISTANT), a_job(logprobs=True), message)
    assert chunk == Chunk("ab", (TokenLogprob("ab", -1.5),))


def test_logprobs_that_were_not_asked_for_are_not_given() -> None:
    [chunk], _ = read(bound(ENSEMBLE), a_job(), answer(text_output="a", output_log_probs=[0.0], final=True))
    assert chunk == Chunk("a")


def test_a_token_without_text_yet_keeps_its_logprob() -> None:
    [first, second], _ = read(
        bound(ENSEMBLE),
        a_job(logprobs=True),
        answer(text_output=b"\xc3", output_log_probs=[-0.5]),
        answer(text_output=b"\xa9", output_log_probs=[-0.25], final=True),
    )
    assert first == Chunk("", (TokenLogprob("", -0.5),))
    assert second == Chunk("é", (TokenLogprob("é", -0.25),))


def test_only_the_first_of_several_elements_is_read() -> None:
    [chunk], _ = read(bound(ENSEMBLE), a_job(), answer(text_output=["a", "b"], final=True))
    assert chunk == Chunk("a")


def test_an_empty_tensor_is_no_text() -> None:
    chunks, _ = read(bound(ENSEMBLE), a_job(), answer(text_output=[]), answer(text_output="", final=True))
    assert chunks == [None, None]


@pytest.mark.parametrize(
    ("model", "counts"), [("assistant", True), ("ensemble", True), ("bls", True), ("llmapi", False)]
)
def test_who_counts(model: str, counts: bool) -> None:
    binding = bound(ALL[model])
    assert binding.counts_tokens is counts
    reader = binding.reader(a_job(max_tokens=4))
    reader.read(answer(text_output="a", num_input_tokens=3, num_output_tokens=1))
    assert reader.counts() == (3, 1)
    reader = binding.reader(a_job(max_tokens=4))
    reader.read(answer(text_output="abcd", final=True))
    assert reader.answer == ("" if counts else "abcd")
    assert reader.result((7, 4)) == Result("length", 7, 4)


# ------------------------------------------------------------------ stopping


def test_a_stop_request_as_nvidias_client_sends_it() -> None:
    binding = bound(ENSEMBLE, VERSION, ENGINE)
    data = binding.encode_stop(a_job())
    assert data is not None
    request = pb.ModelInferRequest.FromString(data)
    assert (request.model_name, request.id) == ("tensorrt_llm", "job-1")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
        ("input_ids", "INT32", [1, 1]),
        ("input_lengths", "INT32", [1, 1]),
        ("request_output_len", "INT32", [1, 1]),
        ("stop", "BOOL", [1, 1]),
    ]
    assert list(request.raw_input_contents) == [bytes(4), bytes(4), bytes(4), b"\1"]


def test_bls_may_name_its_engine() -> None:
    named = replace(BLS, parameters={"tensorrt_llm_model_name": "llm"})
    assert find_contract(named).companions(named) == ("llm", "tensorrt_llm")
    data = bound(named, VERSION, replace(ENGINE, name="llm")).encode_stop(a_job())
    assert data is not None
    assert pb.ModelInferRequest.FromString(data).model_name == "llm"


@pytest.mark.parametrize(
    ("model", "companions"),
    [("ensemble", []), ("ensemble", [without(ENGINE, "stop")]), ("llmapi", [ENGINE]), ("assistant", [ENGINE])],
)
def test_no_stop_request_where_a_cancel_is_enough_or_nothing_takes_one(
    model: str, companions: list[ModelInterface]
) -> None:
    assert bound(ALL[model], VERSION, *companions).encode_stop(a_job()) is None


def test_an_ensembles_steps_are_its_companions() -> None:
    assert find_contract(ENSEMBLE).companions(ENSEMBLE) == ("preprocessing", "tensorrt_llm", "postprocessing")
    assert find_contract(BLS).companions(BLS) == ("tensorrt_llm",)
    assert find_contract(LLMAPI).companions(LLMAPI) == ()
