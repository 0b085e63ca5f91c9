"""OpenAI completions: POST /v1/completions. The prompt goes to the model as it is; no chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest, PenstockError
from gateway.core.request import Request
from gateway.dialects.base import WholeChoice
from gateway.dialects.openai_fields import (
    CommonBody,
    decode_body,
    guide_of,
    refuse,
    require_range,
    sampling_of,
    shown,
)
from gateway.dialects.openai_wire import AnswerEncoder, error_body

MAX_PROMPTS = 64


class CompletionBody(CommonBody, kw_only=True, gc=False):
    prompt: str | list[Any]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


_decoder = msgspec.json.Decoder(CompletionBody)


class OpenAICompletions:
    """The dialect."""

    name = "openai_completions"
    path = b"/v1/completions"

    def parse(self, body: bytes) -> Request:
        """Errors: BadRequest, Unsupported."""
        asked = decode_body(_decoder, body)
        if asked.echo:
            raise refuse("echo", "prompts are not repeated in answers")
        if asked.suffix:
            raise refuse("suffix", "insertion is not supported by this gateway's models")
        if asked.best_of not in (None, 1):
            raise refuse("best_of", "only the choices that are returned are generated; use n")
        require_range("logprobs", asked.logprobs, 0, 5)
        if asked.logprobs:
            raise refuse("logprobs", "engines here return the chosen token's log-probability only; send 0 for it")
        return Request(
            model=asked.model,
            prompts=_prompts(asked.prompt),
            sampling=sampling_of(asked, asked.max_tokens, "max_tokens", logprobs=asked.logprobs is not None),
            guide=guide_of(asked.response_format),
            n=asked.n or 1,
            stream=bool(asked.stream),
            include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
            user=asked.user or None,
        )

    def encoder(self, request: Request, head: Head) -> CompletionEncoder:
        return CompletionEncoder(request, head)

    def error(self, error: PenstockError) -> bytes:
        return error_body(error)


def _prompts(prompt: str | list[Any]) -> tuple[str, ...]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if any(isinstance(item, int | list) for item in prompts):
        raise refuse("prompt", "token ids are not supported, as the versions of an endpoint may differ in tokenizer")
    if len(prompts) > MAX_PROMPTS:
        raise BadRequest(f"prompt: at most {MAX_PROMPTS} in a request; found {len(prompts)}.", param="prompt")
    for item in prompts:
        if not isinstance(item, str):
            raise BadRequest(f"prompt: expected a string or a list of strings; found {shown(item)}.", param="prompt")
    if not prompts or not all(prompts):
        raise BadRequest("prompt: must not be empty; send some text.", param="prompt")
    return tuple(prompts)


def _logprobs(entries: tuple[TokenLogprob, ...], offset: int) -> dict[str, Any]:
    offsets = []
    for item in entries:
        offsets.append(offset)
        offset += len(item.token)
    return {
        "tokens": [item.token for item in entries],
        "token_logprobs": [item.logprob for item in entries],
        "top_logprobs": None,
        "text_offset": offsets,
    }


class CompletionEncoder(AnswerEncoder):
    """Bytes of one completions answer. Offsets count the characters of each choice's text so far."""

    ID, CHUNK, WHOLE = "cmpl", "text_completion", "text_completion"
    CONTENT, TEXT = b'"text":', (b"", b"")

    __slots__ = ("_offsets",)

    def __init__(self, request: Request, head: Head) -> None:
        choices = len(request.prompts) * request.n
        super().__init__(request, head, choices)
        self._offsets = [0] * choices

    def chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> bytes:
        offset = self._offsets[choice]
        self._offsets[choice] = offset + len(text)
        if logprobs:
            return self._event(choice, orjson.dumps(text), orjson.dumps(_logprobs(logprobs, offset)), b"null")
        return b"".join((self._text_heads[choice], orjson.dumps(text), self._text_tail))

    def finish(self, choice: int, finish: Finish) -> bytes:
        return self._event(choice, b'""', b"null", b'"%b"' % finish.encode())

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> bytes:
        answers = [
            {
                "index": index,
                "text": choice.text,
                "logprobs": _logprobs(choice.logprobs, 0) if choice.logprobs else None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(choices)
        ]
        return self._whole(answers, usage)
