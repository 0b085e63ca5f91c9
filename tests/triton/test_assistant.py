"""The embedded assistant in a real Triton: its contract, not its wits.

`end_id` -1 makes it generate until max_tokens whatever it thinks, so most tests don't depend on the weights.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import jsonschema
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.triton_client import Answer, Client, responses
from tests.triton_server import EMBEDDED, IMITATIONS, Served

pytestmark = pytest.mark.asyncio
MODEL = "assistant"
CONTEXT = 2048
PROMPT = "<s><|user|>Count from 1 to 300.</s><|assistant|>"
OPEN = "<s><|user|>"  # what a user may say: here the model is least sure of itself, whatever its weights
ENDLESS = {"end_id": -1, "exclude_input_in_output": True}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"enum": [1, 2, 3]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


async def ask(served: Served, text: str = PROMPT, **inputs: Any) -> Answer:
    """One request in a client of its own; `model` and `version` pick who answers."""
    model, version = inputs.pop("model", MODEL), inputs.pop("version", "1")
    async with Client(served.address) as client:
        return await client.infer(model, {"text_input": text, "max_tokens": 24, **inputs}, version=version)


async def test_tensors_are_those_of_the_stock_ensemble() -> None:
    stock, ours = (
        text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        for folder in (IMITATIONS / "ensemble", EMBEDDED / "assistant")
    )
    for kind in ("input", "output"):
        theirs = {tensor.name: tensor for tensor in getattr(stock, kind)}
        extra = set()
        for tensor in getattr(ours, kind):
            if tensor.name not in theirs:
                extra.add(tensor.name)
                continue
            like = theirs[tensor.name]
            assert (tensor.data_type, list(tensor.dims)) == (like.data_type, list(like.dims)), tensor.name
        assert extra == ({"finish_reason", "output_tokens"} if kind == "output" else set())
    assert ours.max_batch_size > 0
    assert ours.model_transaction_policy.decoupled


@pytest.mark.parametrize("version", ["1", "2"])
async def test_stream_says_the_same_as_one_response(assistant: Served, version: str) -> None:
    whole = await ask(assistant, **ENDLESS, version=version)
    stream = await ask(assistant, **ENDLESS, stream=True, version=version)
    assert len(whole.responses) == 1
    assert len(stream.responses) > 1
    assert stream.text == whole.text != ""
    for answer in (whole, stream):
        assert [response.final for response in answer.responses][-1]
        assert not any(response.final for response in answer.responses[:-1])
        assert answer.finish == "length"
        assert len(answer.joined("finish_reason")) == 1
        assert answer.total("num_output_tokens") == 24
        assert len(set(answer.joined("num_input_tokens"))) == 1
    assert stream.responses[0].outputs["num_output_tokens"] == [1], "the first token waits for no other"
    assert whole.responses[0].shapes == {
        "text_output": (1,),
        "finish_reason": (1,),
        "num_input_tokens": (1, 1),
        "num_output_tokens": (1, 1),
    }


async def test_a_model_by_path_answers_like_the_shipped_one(assistant: Served) -> None:
    prompt = "<s><|user|>Say 日本 🙂 and café</s><|assistant|>"
    shipped, mine = await asyncio.gather(
        ask(assistant, prompt, **ENDLESS, stream=True),
        ask(assistant, prompt, **ENDLESS, stream=True, model="mine"),
    )
    # Bytes that are no character, which a tiny model may write, are shown by one way and dropped by the other.
    assert mine.text.replace("\ufffd", "") == shipped.text.replace("\ufffd", "")
    assert mine.joined("num_input_tokens")[0] == shipped.joined("num_input_tokens")[0]
    long = await ask(assistant, "word " * 3000, model="mine")
    assert f"context is {CONTEXT} tokens" in long.error


async def test_prompt_is_echoed_unless_excluded(assistant: Served) -> None:
    with_prompt = await ask(assistant, end_id=-1, stream=True)
    without = await ask(assistant, **ENDLESS)
    assert with_prompt.text == PROMPT + without.text


async def test_counts_can_be_left_out(assistant: Served) -> None:
    answer = await ask(assistant, return_num_input_tokens=False, return_num_output_tokens=False)
    assert set(answer.responses[0].outputs) == {"text_output", "finish_reason"}


async def test_stop_words_end_the_text_wherever_they_begin(assistant: Served) -> None:
    text = (await ask(assistant, **ENDLESS)).text
    cuts = {text[at : at + 4]: text.index(text[at : at + 4]) for at in range(0, len(text) - 4, 3)}
    answers = await asyncio.gather(
        *[ask(assistant, **ENDLESS, stream=True, stop_words=["never to be seen", word]) for word in cuts]
    )
    for (word, at), answer in zip(cuts.items(), answers, strict=True):
        assert (answer.text, answer.finish) == (text[:at], "stop"), word
    missed = await ask(assistant, **ENDLESS, stop_words=[text[-3:] + "never to be seen"])
    assert (missed.text, missed.finish) == (text, "length"), "text held back is let go at the end"


async def test_seed_gives_the_same_alone_and_in_a_batch(assistant: Served) -> None:
    hot = {**ENDLESS, "temperature": 1.5}
    seeds = [1, 2**40, 2**64 - 1]
    alone = [(await ask(assistant, OPEN, **hot, seed=seed)).text for seed in seeds]
    batch = await asyncio.gather(*[ask(assistant, OPEN, **hot, seed=seed) for seed in [*seeds, *range(2, 15)]])
    assert [answer.text for answer in batch[:3]] == alone
    assert len({answer.text for answer in batch}) > 3


async def test_no_crosstalk_in_a_batch(assistant: Served) -> None:
    prompts = [f"<s><|user|>Count from {start} to {start + 20}.</s><|assistant|>" for start in range(32)]
    together = await asyncio.gather(*[ask(assistant, prompt, **ENDLESS, stream=True) for prompt in prompts])
    for prompt, answer in list(zip(prompts, together, strict=True))[::5]:
        assert answer.text == (await ask(assistant, prompt, **ENDLESS)).text


async def test_log_probs_come_with_their_tokens(assistant: Served) -> None:
    answer = await ask(assistant, **ENDLESS, stream=True, return_log_probs=True)
    log_probs = answer.joined("output_log_probs")
    tokens = [token if isinstance(token, bytes) else token.encode() for token in answer.joined("output_tokens")]
    assert len(log_probs) == len(tokens) == answer.total("num_output_tokens") == 24
    assert all(log_prob <= 0 for log_prob in log_probs)
    assert answer.joined("cum_log_probs")[-1] == pytest.approx(sum(log_probs), rel=1e-3)
    assert b"".join(tokens).decode("utf-8", "replace").startswith(answer.text)


async def test_min_tokens_holds_off_the_end(assistant: Served) -> None:
    answer = await ask(assistant, "<s><|user|>Hello</s><|assistant|>", min_tokens=24, exclude_input_in_output=True)
    assert (answer.total("num_output_tokens"), answer.finish) == (24, "length")
    text = (await ask(assistant, **ENDLESS)).text
    held = await ask(assistant, **ENDLESS, min_tokens=24, stop_words=[text[:1]])
    assert held.total("num_output_tokens") == 24


@pytest.mark.parametrize(
    "inputs",
    [
        {"top_k": 1, "temperature": 1.9},
        {"temperature": 0.0},
        {"temperature": 1e-30, "seed": 3},
        {"top_p": 0.0},
    ],
    ids=str,
)
async def test_what_is_greedy(assistant: Served, inputs: dict[str, Any]) -> None:
    assert (await ask(assistant, **ENDLESS, **inputs)).text == (await ask(assistant, **ENDLESS)).text


async def test_penalties_are_honoured(assistant: Served) -> None:
    async def chosen(**inputs: Any) -> list[Any]:
        answer = await ask(assistant, OPEN, **ENDLESS, temperature=1.5, seed=7, max_tokens=64, **inputs)
        return answer.joined("text_output")

    plain = await chosen()
    assert await chosen() == plain
    for name, value in (("repetition_penalty", 5.0), ("presence_penalty", 2.0), ("frequency_penalty", 2.0)):
        assert await chosen(**{name: value}) != plain, name


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0}, "max_tokens is 0; it must be at least 1"),
    ({"max_tokens": -7}, "max_tokens is -7; it must be at least 1"),
    ({"min_tokens": -1}, "min_tokens is -1; it must be at least 0"),
    ({"min_tokens": 25}, "min_tokens is 25, more than max_tokens, which is 24"),
    ({"temperature": -0.5}, "temperature is -0.5; it must be between 0 and 2"),
    ({"temperature": 2.5}, "temperature is 2.5; it must be between 0 and 2"),
    ({"temperature": float("nan")}, "temperature is nan; it must be between 0 and 2"),
    ({"temperature": float("inf")}, "temperature is inf; it must be between 0 and 2"),
    ({"top_p": 1.5}, "top_p is 1.5; it must be between 0 and 1"),
    ({"top_k": -1}, "top_k is -1; it must be at least 0"),
    ({"repetition_penalty": 0.0}, "repetition_penalty is 0; it must be between 0.01 and 10"),
    ({"presence_penalty": 3.0}, "presence_penalty is 3; it must be between -2 and 2"),
    ({"frequency_penalty": float("nan")}, "frequency_penalty is nan; it must be between -2 and 2"),
    ({"end_id": -2}, "end_id is -2; it must be at least -1"),
    ({"stop_words": ["x"] * 65}, "stop_words has 65 entries; 64 are allowed"),
    ({"stop_words": [b"\xc3"]}, "stop_words is not valid UTF-8 at byte 0"),
    ({"text_input": ""}, "text_input is empty"),
    ({"text_input": b"ab\xff"}, "text_input is not valid UTF-8 at byte 2"),
    ({"guided_decoding_guide": "x"}, "without guided_decoding_guide_type"),
    ({"guided_decoding_guide_type": "xml", "guided_decoding_guide": "x"}, "'xml'; known are json,"),
    ({"guided_decoding_guide_type": "regex"}, "guided_decoding_guide is empty"),
    ({"guided_decoding_guide_type": "regex", "guided_decoding_guide": "x" * 70000}, "70000 bytes"),
    ({"guided_decoding_guide_type": "json", "end_id": -1}, "end_id can't be set together"),
]


async def test_bad_values_are_refused_by_name(assistant: Served) -> None:
    for inputs, message in REFUSED:
        answer = await ask(assistant, **inputs)
        assert message in answer.error, inputs
        assert len(answer.responses) == 1
        assert not re.search(r"Traceback|\.py|\.cpp|\n", answer.error)


async def test_a_batch_of_two_is_refused(assistant: Served) -> None:
    async with Client(assistant.address) as client:
        request = client.request(MODEL, {"text_input": ["a", "b"], "max_tokens": 3})
        for tensor in request.inputs:
            tensor.shape[:] = [2, 1]
        request.raw_input_contents[1] *= 2

        async def one() -> Any:
            yield request

        errors = [response.error async for response in responses(client.stub.ModelStreamInfer(one()))]
    assert errors == ["text_input has 2 values; a request carries one prompt"]


async def test_context_is_enforced(assistant: Served) -> None:
    long = await ask(assistant, "word " * 3000)
    assert re.search(rf"the prompt has \d{{4,}} tokens, but this model's context is {CONTEXT} tokens", long.error)
    huge = await ask(assistant, "word " * 1_000_000)
    assert re.search(rf"more than \d{{5,}} tokens, but this model's context is {CONTEXT} tokens", huge.error)
    fits = await ask(assistant, "<s>" * (CONTEXT - 10), **ENDLESS, max_tokens=1000)
    assert fits.joined("num_input_tokens") == [CONTEXT - 10]
    assert (fits.total("num_output_tokens"), fits.finish) == (10, "length")


async def test_guides_shape_the_answer(assistant: Served) -> None:
    schema, any_object, regex, grammar = await asyncio.gather(
        ask(assistant, guided_decoding_guide_type="json_schema", guided_decoding_guide=json.dumps(SCHEMA),
            max_tokens=400, exclude_input_in_output=True, temperature=1.0, seed=1),
        ask(assistant, guided_decoding_guide_type="json", exclude_input_in_output=True),
        ask(assistant, guided_decoding_guide_type="regex", guided_decoding_guide="[日本🙂]{5}",
            stream=True, exclude_input_in_output=True),
        ask(assistant, guided_decoding_guide_type="ebnf_grammar", guided_decoding_guide='root ::= "yes" | "no"',
            exclude_input_in_output=True),
    )  # fmt: skip
    if schema.finish == "stop":  # else it lost itself in white space, which the schema allows
        jsonschema.validate(json.loads(schema.text), SCHEMA)
    assert any_object.text.startswith("{")
    assert re.fullmatch("[日本🙂]{5}", regex.text), "characters of several tokens come whole"
    assert all(isinstance(text, str) for text in regex.joined("text_output"))
    assert (grammar.text in ("yes", "no"), grammar.finish) == (True, "stop")


BAD_GUIDES = [
    ("json_schema", "{bad", "Failed to parse JSON"),
    ("json_schema", '{"type": "nonsense"}', 'Unsupported type "nonsense"'),
    ("regex", "([", "Unclosed '['"),
    ("ebnf_grammar", "root = yes", "root rule"),
    ("regex", "((a{1,1000}){1,1000}){1,500}", "takes more than"),
]


async def test_a_bad_guide_is_refused_and_harms_nobody(assistant: Served) -> None:
    undisturbed = (await ask(assistant, **ENDLESS, max_tokens=400)).text
    beside = asyncio.create_task(ask(assistant, **ENDLESS, max_tokens=400, stream=True))
    for kind, guide, message in BAD_GUIDES:
        answer = await ask(assistant, guided_decoding_guide_type=kind, guided_decoding_guide=guide)
        assert answer.error.startswith("guided_decoding_guide is refused: "), (guide, answer.error)
        assert message in answer.error
        assert not re.search(r"\.cc|\.cpp|\n", answer.error)
    assert (await beside).text == undisturbed


@pytest.mark.parametrize("how", ["cancel", "deadline"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_cancel_reaches_the_engine(assistant: Served, how: str, stream: bool) -> None:
    name = f"{how}-{stream}"
    inputs = {"text_input": PROMPT, "max_tokens": 2000, "stream": stream, **ENDLESS}
    async with Client(assistant.address) as client:
        call = client.call(MODEL, inputs, version="1", request_id=name, timeout=0.3 if how == "deadline" else 60)
        await asyncio.to_thread(assistant.events.wait_for, "started", name)
        if how == "cancel":
            if stream:
                await call.read()
            gone_at = time.monotonic()
            call.cancel()
        else:
            await call.code()
            gone_at = time.monotonic()
        seen = await asyncio.to_thread(assistant.events.wait_for, "cancelled", name)
    assert seen["at"] - gone_at < 0.2
    assert seen["tokens"] < 2000
