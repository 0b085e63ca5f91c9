"""From tensors to a validated prompt, or to an error that names what is wrong.

GenAI checks little and late: a prompt beyond the context gives garbage, a bad number an error with
the path of its source file. So every value is checked here, before the engine sees it. The tensors
come as plain numpy arrays: nothing here knows Triton.

Meaning of the sampling inputs, as in the stock ensemble: without temperature, top_k and top_p the
answer is greedy; temperature 0, or top_k 1, is greedy too; top_k 0 and top_p 1 are "off". Without
a seed the answer differs from call to call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock_engine.guides import Guide
from penstock_engine.schema_grammar import schema_grammar

Tensors = Mapping[str, npt.NDArray[np.generic]]

MAX_STOP_WORDS = 64
MAX_GUIDE_BYTES = 64 * 1024
_ANY_OBJECT = '{"type": "object"}'
_GUIDES = {"json_schema": "json_schema", "regex": "regex", "ebnf_grammar": "grammar"}


class RequestError(ValueError):
    """The request can't be served as it is; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, checked. `temperature` 0 means greedy; `end_id` None means the model's own."""

    text: str
    max_tokens: int
    min_tokens: int = 0
    stop_words: tuple[str, ...] = ()
    end_id: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    guide: Guide | None = None
    stream: bool = False
    echo: bool = True
    log_probs: bool = False
    count_input: bool = True
    count_output: bool = True


def read_prompt(tensors: Tensors) -> Prompt:
    """Check every input of a request.

    Args:
        tensors: input name -> array, as they arrived ([1, 1] or [1, N]; BYTES as objects).

    Raises:
        RequestError: the first thing that is wrong, with its name and value.
    """
    text = _text(tensors, "text_input")
    if not text:
        raise RequestError("text_input is empty")
    max_tokens = _whole(tensors, "max_tokens", None, 1)
    min_tokens = _whole(tensors, "min_tokens", 0, 0)
    if min_tokens > max_tokens:
        raise RequestError(f"min_tokens is {min_tokens}, more than max_tokens, which is {max_tokens}")
    stops = tuple(stop for stop in _texts(tensors, "stop_words") if stop)
    if len(stops) > MAX_STOP_WORDS:
        raise RequestError(f"stop_words has {len(stops)} entries; {MAX_STOP_WORDS} are allowed")
    top_k = _whole(tensors, "top_k", 0, 0)
    top_p = _real(tensors, "top_p", 1.0, 0.0, 1.0)
    sampled = "top_k" in tensors or "top_p" in tensors
    temperature = _real(tensors, "temperature", 1.0 if sampled else 0.0, 0.0, 2.0)
    if top_k == 1 or (top_p == 0.0 and top_k == 0):
        temperature = 0.0
    guide = _guide(tensors)
    if guide is not None and "end_id" in tensors:
        raise RequestError("end_id can't be set together with a guide, which ends by itself")
    return Prompt(
        text=text,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop_words=stops,
        end_id=_whole(tensors, "end_id", None, -1) if "end_id" in tensors else None,
        temperature=temperature,
        top_p=top_p or 1.0,
        top_k=top_k,
        repetition_penalty=_real(tensors, "repetition_penalty", 1.0, 0.01, 10.0),
        presence_penalty=_real(tensors, "presence_penalty", 0.0, -2.0, 2.0),
        frequency_penalty=_real(tensors, "frequency_penalty", 0.0, -2.0, 2.0),
        seed=_whole(tensors, "seed", None, 0) if "seed" in tensors else None,
        guide=guide,
        stream=_flag(tensors, "stream", False),
        echo=not _flag(tensors, "exclude_input_in_output", False),
        log_probs=_flag(tensors, "return_log_probs", False),
        count_input=_flag(tensors, "return_num_input_tokens", True),
        count_output=_flag(tensors, "return_num_output_tokens", True),
    )


def room_for(prompt_tokens: int, prompt: Prompt, context: int) -> int:
    """How many tokens may be generated: max_tokens, or what is left of the context.

    Raises:
        RequestError: the prompt alone fills the context.
    """
    if prompt_tokens >= context:
        raise RequestError(_too_long(f"{prompt_tokens}", context))
    return min(prompt.max_tokens, context - prompt_tokens)


def refuse_oversized(prompt: Prompt, longest_token: int, context: int) -> None:
    """Refuse a text that can't fit whatever its tokens are, without tokenizing it.

    Args:
        longest_token: bytes of the longest token; 0 if unknown, then nothing is refused.

    Raises:
        RequestError: even in the longest tokens the text fills the context.
    """
    size = len(prompt.text.encode())
    if longest_token and size >= context * longest_token:
        raise RequestError(_too_long(f"more than {size // longest_token - 1}", context))


def _too_long(tokens: str, context: int) -> str:
    return (
        f"the prompt has {tokens} tokens, but this model's context is {context} tokens for prompt"
        " and answer together; shorten the prompt"
    )


def _guide(tensors: Tensors) -> Guide | None:
    kind = _text(tensors, "guided_decoding_guide_type") if _has_guide_type(tensors) else ""
    text = _text(tensors, "guided_decoding_guide") if "guided_decoding_guide" in tensors else ""
    if not kind:
        if text:
            raise RequestError("guided_decoding_guide is given without guided_decoding_guide_type")
        return None
    if kind == "json":
        return _json_guide(_ANY_OBJECT)
    if kind not in _GUIDES:
        known = ", ".join(["json", *_GUIDES])
        raise RequestError(f"guided_decoding_guide_type is {kind!r}; known are {known}")
    if not text:
        raise RequestError(f"guided_decoding_guide is empty; {kind} needs one")
    if len(text.encode()) > MAX_GUIDE_BYTES:
        raise RequestError(f"guided_decoding_guide has {len(text.encode())} bytes; {MAX_GUIDE_BYTES} are allowed")
    return _json_guide(text) if kind == "json_schema" else Guide(_GUIDES[kind], text)


def _json_guide(schema: str) -> Guide:
    grammar = schema_grammar(schema)
    return Guide("json_schema", schema) if grammar is None else Guide("grammar", grammar)


def _has_guide_type(tensors: Tensors) -> bool:
    return "guided_decoding_guide_type" in tensors


def _one(tensors: Tensors, name: str) -> object:
    if name not in tensors:
        raise RequestError(f"{name} is missing")
    values = tensors[name].reshape(-1)
    if values.size != 1:
        raise RequestError(f"{name} has {values.size} values; a request carries one prompt")
    return values[0]


def _texts(tensors: Tensors, name: str) -> list[str]:
    if name not in tensors:
        return []
    array = tensors[name]
    if array.ndim > 1 and array.shape[0] > 1:
        raise RequestError(f"{name} has a batch of {array.shape[0]}; a request carries one prompt")
    return [_decoded(raw, name) for raw in array.reshape(-1)]


def _text(tensors: Tensors, name: str) -> str:
    return _decoded(_one(tensors, name), name)


def _decoded(raw: object, name: str) -> str:
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, bytes):
        raise RequestError(f"{name} is not a string")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise RequestError(f"{name} is not valid UTF-8 at byte {exc.start}") from None


def _whole(tensors: Tensors, name: str, default: int | None, least: int) -> int:
    if name not in tensors and default is not None:
        return default
    value = int(str(_one(tensors, name)))
    if value < least:
        raise RequestError(f"{name} is {value}; it must be at least {least}")
    return value


def _real(tensors: Tensors, name: str, default: float, least: float, most: float) -> float:
    if name not in tensors:
        return default
    value = float(str(_one(tensors, name)))
    if not math.isfinite(value) or not least <= value <= most:
        raise RequestError(f"{name} is {value:g}; it must be between {least:g} and {most:g}")
    return value


def _flag(tensors: Tensors, name: str, default: bool) -> bool:
    return bool(_one(tensors, name)) if name in tensors else default
