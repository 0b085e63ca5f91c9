"""Between the messages of penstock.v1 and the canonical request and answer. Pure; the bounds are the OpenAI dialect's.

Fields bear the names of HTTP's, so one rule has one home and its refusal names the right field here too. What
the two spell differently is renamed in the refusal: the guides.
"""

from __future__ import annotations

import math
from typing import Any

import orjson
from google.protobuf.message import DecodeError

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest
from gateway.core.request import Guide, Message, Request
from gateway.dialects.openai_chat import ROLES
from gateway.dialects.openai_completions import MAX_PROMPTS
from gateway.dialects.openai_fields import CommonBody, guide_of, sampling_of, shown
from penstock.v1 import inference_pb2 as pb

_FRACTIONS = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
_SAID = ("max_tokens", "min_tokens", "top_k", "seed", "n", *_FRACTIONS)  # fields that may be unset
_GUIDES = {"json_schema": "response_format.json_schema.schema", "regex": "response_format.regex"}
_GUIDES |= {"grammar": "response_format.ebnf"}
_FINISHES: dict[Finish, pb.Finish.ValueType] = {"stop": pb.FINISH_STOP, "length": pb.FINISH_LENGTH}


def decode_request(data: bytes) -> pb.GenerateRequest:
    """Errors: BadRequest for bytes that are no such message, or whose text is not UTF-8."""
    try:
        return pb.GenerateRequest.FromString(data)
    except DecodeError:
        raise BadRequest(
            "The request is not a penstock.v1.GenerateRequest; send one, with its text in UTF-8.",
            code="invalid_message",
        ) from None


def request_of(asked: pb.GenerateRequest, *, stream: bool) -> Request:
    """The canonical request. Errors: BadRequest and its kinds, with the field, the value and the remedy."""
    if not asked.model:
        raise BadRequest("The field 'model' is missing; it is required.", param="model")
    said = {name: getattr(asked, name) for name in _SAID if asked.HasField(name)}  # type: ignore[arg-type]
    for name in _FRACTIONS:
        if not math.isfinite(said.get(name, 0.0)):
            raise BadRequest(f"{name}: must be a finite number; found {said[name]}.", param=name)
    body = CommonBody(model=asked.model, stop=list(asked.stop), user=asked.user, **said)
    return Request(
        model=asked.model,
        messages=tuple([_message(message, index) for index, message in enumerate(asked.messages)]),
        prompts=_prompts(asked),
        sampling=sampling_of(body, body.max_tokens, "max_tokens", logprobs=asked.logprobs),
        guide=_guide(asked.guide) if asked.HasField("guide") else None,
        n=body.n or 1,
        stream=stream,
        include_usage=True,
        user=asked.user or None,
    )


def _prompts(asked: pb.GenerateRequest) -> tuple[str, ...]:
    prompts = tuple(asked.prompts)
    if asked.messages and prompts:
        raise BadRequest("prompts: messages are given too; send one of them.", param="prompts")
    if not asked.messages and not prompts:
        raise BadRequest("messages: at least one message, or one of prompts, is needed; found none.", param="messages")
    if len(prompts) > MAX_PROMPTS:
        raise BadRequest(f"prompts: at most {MAX_PROMPTS} in a request; found {len(prompts)}.", param="prompts")
    if not all(prompts):
        raise BadRequest("prompts: must not be empty; send some text.", param="prompts")
    return prompts


def _message(message: pb.Message, index: int) -> Message:
    if message.role not in ROLES:
        field = f"messages[{index}].role"
        raise BadRequest(f"{field}: expected one of {', '.join(ROLES)}; found {shown(message.role)}.", param=field)
    return Message(
        message.role,
        message.content,
        message.name if message.HasField("name") else None,
        _tool_calls(message.tool_calls, index) if message.HasField("tool_calls") else None,
        message.tool_call_id if message.HasField("tool_call_id") else None,
    )


def _tool_calls(text: str, index: int) -> list[Any]:
    try:
        calls = orjson.loads(text)
    except orjson.JSONDecodeError:
        calls = None
    if isinstance(calls, list):
        return calls
    field = f"messages[{index}].tool_calls"  # what was found is a part of a conversation: it stays out of errors
    raise BadRequest(f"{field}: expected a JSON array; found {len(text)} characters that are none.", param=field)


def _guide(guide: pb.Guide) -> Guide | None:
    kind = guide.WhichOneof("kind")
    if kind is None:
        raise BadRequest("guide: expected json_object, json_schema, regex or grammar; found none.", param="guide")
    if kind == "json_object":
        return Guide("json_object") if guide.json_object else None
    source: str = getattr(guide, kind)
    if kind == "regex":
        asked: dict[str, Any] = {"type": "regex", "regex": source}
    elif kind == "grammar":
        asked = {"type": "ebnf", "ebnf": source}
    else:
        try:
            schema = orjson.loads(source)
        except orjson.JSONDecodeError as error:
            raise BadRequest(
                f"guide.json_schema: expected a JSON schema as JSON text; found {shown(source)} ({error}).",
                param="guide.json_schema",
            ) from None
        asked = {"type": "json_schema", "json_schema": {"schema": schema}}
    try:
        return guide_of(asked)
    except BadRequest as error:
        field = f"guide.{kind}"
        raise BadRequest(error.message.replace(_GUIDES[kind], field, 1), param=field) from None


# Answers


def head_message(head: Head) -> pb.Head:
    """What is known before the first text."""
    return pb.Head(
        id=head.id,
        created=head.created,
        endpoint=head.endpoint,
        version=head.version,
        fingerprint=head.fingerprint,
        seed=head.seed,
        determinism=head.determinism,
    )


def logprob_messages(entries: tuple[TokenLogprob, ...]) -> list[pb.TokenLogprob]:
    """One per token."""
    return [pb.TokenLogprob(token=entry.token, logprob=entry.logprob) for entry in entries]


def finish_value(finish: Finish) -> pb.Finish.ValueType:
    """The enum's value."""
    return _FINISHES[finish]


def usage_message(usage: Usage) -> pb.Usage:
    """A count that is not known is absent."""
    return pb.Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
