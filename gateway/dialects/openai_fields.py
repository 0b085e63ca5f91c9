"""What OpenAI's request bodies have in common: decoding, the sampling fields, stop, response_format.

Bodies are decoded straight into structs; that is the fast path and it checks types. Only when it fails
is the body looked at again, to say which field held what. Unknown fields are tolerated, as OpenAI's own
clients and their many extensions need; fields that we know and cannot honour are refused by name.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
import orjson

from gateway.core.errors import BadRequest, Unsupported
from gateway.core.request import Guide, Sampling

MAX_STOPS, MAX_STOP_CHARS = 16, 256
MAX_USER_CHARS = 512
MAX_SCHEMA_DEPTH = 64

_Body = TypeVar("_Body")
_AT = re.compile(r"^(?P<what>.*?) - at `(?P<path>\$[^`]*)`$")
_STEP = re.compile(r"\[(\d+)\]|\.([^.\[\]]+)")


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class CommonBody(msgspec.Struct, kw_only=True, gc=False):
    """Fields that chat and completions share. Types here are what the field may be; ranges are checked below."""

    model: str
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    response_format: dict[str, Any] | None = None


def decode_body(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """The body as its struct. Errors: BadRequest that names the field, what was found and what is wanted."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error), body) from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply to be read.", code="invalid_json") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8: {error.reason}.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error}. "
            "Send one JSON object with the content type application/json.",
            code="invalid_json",
        ) from None


def _explain(message: str, body: bytes) -> BadRequest:
    match = _AT.match(message)
    if match is None:
        if message.startswith("Object missing required field"):
            field = message.split("`")[1]
            return BadRequest(f"The field '{field}' is missing; it is required.", param=field)
        return BadRequest(f"The request body must be one JSON object: {message}.", code="invalid_json")
    what, path = match["what"], match["path"][2:]
    if what.startswith("Object missing required field"):
        param = f"{path}.{what.split('`')[1]}" if path else what.split("`")[1]
        return BadRequest(f"The field '{param}' is missing; it is required.", param=param)
    return BadRequest(f"{path}: {_readable(what)}; found {_found(match['path'], body)}.", param=path)


def _readable(what: str) -> str:
    wanted = re.match(r"Expected `(.+?)`", what)
    if wanted is None:
        return what[0].lower() + what[1:]
    names = {"int": "an integer", "float": "a number", "str": "a string", "bool": "true or false"}
    names |= {"array": "a list", "object": "an object", "null": "null"}
    return "expected " + " or ".join(names.get(kind, kind) for kind in wanted[1].split(" | "))


def _found(path: str, body: bytes) -> str:
    try:
        value = orjson.loads(body)
        for index, key in _STEP.findall(path):
            value = value[int(index)] if index else value[key]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return "a value that does not fit"  # orjson refuses some numbers that the first decoder read
    return shown(value)


def shown(value: object) -> str:
    """A value of the caller's as an error message shows it: JSON, cut short."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits, or nested too deeply for orjson
        try:
            text = str(value)
        except RecursionError:
            text = "a deeply nested value"
    return text if len(text) <= 60 else text[:57] + "..."


def require_range(field: str, value: float | None, low: float, high: float, *, open_low: bool = False) -> None:
    """Errors: BadRequest unless `value` is None or in [low, high] (or in (low, high])."""
    if value is None or (low < value <= high if open_low else low <= value <= high):
        return
    span = f"above {low} and at most {high}" if open_low else f"from {low} to {high}"
    raise BadRequest(f"{field}: must be {span}; found {shown(value)}.", param=field)


def refuse(field: str, why: str) -> Unsupported:
    """The error for a known field that no endpoint here honours."""
    return Unsupported(f"{field}: {why}; leave it out.", param=field)


def sampling_of(body: CommonBody, max_tokens: int | None, max_tokens_field: str, logprobs: bool) -> Sampling:
    """The sampling fields, checked. Errors: BadRequest, Unsupported."""
    require_range(max_tokens_field, max_tokens, 1, 2**31 - 1)
    require_range("min_tokens", body.min_tokens, 0, 2**31 - 1)
    require_range("temperature", body.temperature, 0, 2)
    require_range("top_p", body.top_p, 0, 1, open_low=True)
    require_range("top_k", body.top_k, -1, 2**31 - 1)
    require_range("seed", body.seed, -(2**63), 2**64 - 1)  # unsigned too: answers report a seed that way
    require_range("presence_penalty", body.presence_penalty, -2, 2)
    require_range("frequency_penalty", body.frequency_penalty, -2, 2)
    require_range("repetition_penalty", body.repetition_penalty, 0, 10, open_low=True)
    require_range("n", body.n, 1, 128)
    if body.logit_bias:
        raise refuse("logit_bias", "token ids differ between the versions of an endpoint, so it is not supported")
    if body.user is not None and len(body.user) > MAX_USER_CHARS:
        raise BadRequest(f"user: must be at most {MAX_USER_CHARS} characters; found {len(body.user)}.", param="user")
    return Sampling(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or None,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k if body.top_k and body.top_k > 0 else None,  # 0 and -1 mean "off" in the field
        seed=None if body.seed is None else body.seed % 2**64,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        stop=_stop(body.stop),
        logprobs=logprobs,
    )


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS:
        raise BadRequest(f"stop: at most {MAX_STOPS} strings; found {len(stops)}.", param="stop")
    for text in stops:
        if not 0 < len(text) <= MAX_STOP_CHARS:
            raise BadRequest(
                f"stop: each string needs 1 to {MAX_STOP_CHARS} characters; found {shown(text)}.",
                param="stop",
            )
    return stops


def guide_of(response_format: dict[str, Any] | None) -> Guide | None:
    """The guide that `response_format` asks for. Errors: BadRequest."""
    if response_format is None:
        return None
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Guide("json_object")
    if kind == "json_schema":
        holder = response_format.get("json_schema")
        schema = holder.get("schema") if isinstance(holder, dict) else None
        field = "response_format.json_schema.schema"
        if not isinstance(schema, dict):
            raise BadRequest(f"{field}: expected a JSON schema object; found {shown(schema)}.", param=field)
        if _depth(schema) > MAX_SCHEMA_DEPTH:
            raise BadRequest(f"{field}: nested deeper than {MAX_SCHEMA_DEPTH} levels; flatten it.", param=field)
        try:
            return Guide("json_schema", orjson.dumps(schema).decode())
        except TypeError:
            raise BadRequest(f"{field}: holds an integer beyond 64 bits; use a smaller one.", param=field) from None
    for name, guide in (("regex", "regex"), ("ebnf", "grammar")):  # as TensorRT-LLM's own server takes them
        if kind == name:
            source = response_format.get(name)
            if not isinstance(source, str) or not source:
                field = f"response_format.{name}"
                raise BadRequest(f"{field}: expected a string; found {shown(source)}.", param=field)
            return Guide("regex" if guide == "regex" else "grammar", source)
    raise BadRequest(
        f"response_format.type: expected text, json_object, json_schema, regex or ebnf; found {shown(kind)}.",
        param="response_format.type",
    )


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
    return deepest
