"""OpenAI chat completions: POST /v1/chat/completions.

Stream order: a role chunk per choice, content deltas, an empty delta with the finish reason per choice,
with `stream_options.include_usage` one chunk that has no choices, [DONE].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest, PenstockError, Unsupported
from gateway.core.request import Message, Request, Sampling
from gateway.dialects.base import WholeChoice
from gateway.dialects.openai_fields import (
    MAX_STOP_CHARS,
    MAX_USER_CHARS,
    CommonBody,
    StreamOptions,
    decode_body,
    guide_of,
    refuse,
    require_range,
    sampling_of,
    shown,
)
from gateway.dialects.openai_wire import AnswerEncoder, error_body

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class ChatMessage(msgspec.Struct, gc=False):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None


class ChatBody(CommonBody, kw_only=True, gc=False):
    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    reasoning_effort: str | None = None


class PlainBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What nearly every body is, checked whole by the decoder; one that is not gets the long way and its errors."""

    model: str
    messages: Annotated[tuple[Message, ...], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Meta(max_length=MAX_USER_CHARS)] | None = None


_decoder = msgspec.json.Decoder(ChatBody)
_decode_plain = msgspec.json.Decoder(PlainBody).decode


class OpenAIChat:
    """The dialect."""

    name = "openai_chat"
    path = b"/v1/chat/completions"

    def parse(self, body: bytes) -> Request:
        """Errors: BadRequest, Unsupported."""
        try:
            plain = _decode_plain(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.parse_any(body)
        max_tokens = plain.max_tokens
        if plain.max_completion_tokens is not None:
            if max_tokens is not None:
                return self.parse_any(body)
            max_tokens = plain.max_completion_tokens
        for message in plain.messages:
            if message.role not in ROLES:
                return self.parse_any(body)
        options, stop = plain.stream_options, plain.stop
        return Request(
            plain.model,
            plain.messages,
            sampling=Sampling(
                max_tokens,
                None,
                plain.temperature,
                plain.top_p,
                None,
                plain.seed,
                plain.presence_penalty,
                plain.frequency_penalty,
                None,
                () if stop is None else (stop,),
            ),
            n=plain.n or 1,
            stream=plain.stream is True,
            include_usage=options is not None and options.include_usage is True,
            user=plain.user or None,
        )

    def parse_any(self, body: bytes) -> Request:
        """Any body, the long way. Errors: as of `parse`."""
        chat = decode_body(_decoder, body)
        if not chat.messages:
            raise BadRequest("messages: at least one message is needed; found an empty list.", param="messages")
        _refuse_unsupported(chat)
        return Request(
            model=chat.model,
            messages=tuple([_message(message, index) for index, message in enumerate(chat.messages)]),
            sampling=sampling_of(chat, *_max_tokens(chat), logprobs=bool(chat.logprobs)),
            guide=guide_of(chat.response_format),
            n=chat.n or 1,
            stream=bool(chat.stream),
            include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
            user=chat.user or None,
        )

    def encoder(self, request: Request, head: Head) -> ChatEncoder:
        return ChatEncoder(request, head)

    def error(self, error: PenstockError) -> bytes:
        return error_body(error)


def _max_tokens(chat: ChatBody) -> tuple[int | None, str]:
    if chat.max_completion_tokens is None:
        return chat.max_tokens, "max_tokens"
    if chat.max_tokens is not None and chat.max_tokens != chat.max_completion_tokens:
        raise BadRequest(
            f"max_tokens is {shown(chat.max_tokens)} and max_completion_tokens {shown(chat.max_completion_tokens)}; "
            "send one of them.",
            param="max_completion_tokens",
        )
    return chat.max_completion_tokens, "max_completion_tokens"


def _refuse_unsupported(chat: ChatBody) -> None:
    if chat.tools and chat.tool_choice != "none":
        raise refuse("tools", "tool calls are not supported by this gateway's models")
    if chat.functions:
        raise refuse("functions", "function calls are not supported by this gateway's models")
    if chat.modalities and chat.modalities != ["text"]:
        raise refuse("modalities", f"only text is supported; found {shown(chat.modalities)}")
    if chat.audio is not None:
        raise refuse("audio", "audio is not supported")
    if chat.web_search_options is not None:
        raise refuse("web_search_options", "web search is not supported")
    if chat.reasoning_effort not in (None, "none"):
        raise refuse("reasoning_effort", "reasoning effort is not supported by this gateway's models")
    require_range("top_logprobs", chat.top_logprobs, 0, 20)
    if chat.top_logprobs:
        raise refuse("top_logprobs", "engines here return the chosen token's log-probability only")


def _message(message: ChatMessage, index: int) -> Message:
    role = message.role
    if role not in ROLES:
        field = f"messages[{index}].role"
        raise BadRequest(f"{field}: expected one of {', '.join(ROLES)}; found {shown(role)}.", param=field)
    content = message.content
    if content is None:
        if role != "assistant" or not (message.tool_calls or message.function_call):
            field = f"messages[{index}].content"
            raise BadRequest(f"{field}: may be null only beside tool_calls of an assistant; send text.", param=field)
        content = ""
    elif not isinstance(content, str):
        content = "".join([_part(part, index, at) for at, part in enumerate(content)])
    return Message(role, content, message.name, message.tool_calls, message.tool_call_id)


def _part(part: dict[str, Any], index: int, at: int) -> str:
    field = f"messages[{index}].content[{at}]"
    kind = part.get("type")
    if kind not in ("text", "refusal"):
        raise Unsupported(f"{field}.type: only text parts are supported; found {shown(kind)}.", param=f"{field}.type")
    text = part.get(kind)
    if not isinstance(text, str):
        raise BadRequest(f"{field}.{kind}: expected a string; found {shown(text)}.", param=f"{field}.{kind}")
    return text


def _logprobs(entries: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    content = [
        {"token": item.token, "logprob": item.logprob, "bytes": list(item.token.encode()), "top_logprobs": []}
        for item in entries
    ]
    return {"content": content, "refusal": None}


class ChatEncoder(AnswerEncoder):
    """Bytes of one chat answer."""

    ID, CHUNK, WHOLE = "chatcmpl", "chat.completion.chunk", "chat.completion"
    CONTENT, TEXT = b'"delta":', (b'{"content":', b"}")

    __slots__ = ()

    def __init__(self, request: Request, head: Head) -> None:
        super().__init__(request, head, request.n)

    def start(self) -> bytes:
        super().start()
        role = b'{"role":"assistant","content":"","refusal":null}'
        return b"".join([self._event(choice, role, b"null", b"null") for choice in range(self._choices)])

    def chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> bytes:
        if logprobs:
            return self._event(
                choice, b'{"content":%b}' % orjson.dumps(text), orjson.dumps(_logprobs(logprobs)), b"null"
            )
        return b"".join((self._text_heads[choice], orjson.dumps(text), self._text_tail))

    def finish(self, choice: int, finish: Finish) -> bytes:
        return self._event(choice, b"{}", b"null", b'"%b"' % finish.encode())

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> bytes:
        answers = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": _logprobs(choice.logprobs) if choice.logprobs else None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(choices)
        ]
        return self._whole(answers, usage)
