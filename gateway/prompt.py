"""Prompt templates: from messages to the text that a model reads.

Templates are Jinja as Hugging Face's tokenizer_config.json writes them, run in a sandbox: they come from
model repositories and are data, not code. The helpers that such templates call are the ones that
`transformers` gives them (`raise_exception`, `strftime_now`, a `tojson` that keeps characters as they
are); the date comes in as an argument, for this floor reads no clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.core.errors import BadRequest
from gateway.core.request import Message


class PromptTemplate:
    """A compiled chat template. Errors: `jinja2.TemplateSyntaxError` from the constructor."""

    __slots__ = ("_template", "_variables")

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        self._template = environment.from_string(source)
        self._variables = dict(variables or {})

    def render(self, messages: Sequence[Message], now: datetime) -> str:
        """The prompt, ending where the assistant is to speak. Errors: BadRequest when the template refuses."""
        try:
            return self._template.render(
                messages=[_as_dict(message) for message in messages],
                add_generation_prompt=True,
                strftime_now=now.strftime,
                **self._variables,
            )
        except (TemplateError, TypeError, ValueError, RecursionError) as error:
            raise BadRequest(
                f"The model's prompt template refuses these messages: {error}", param="messages"
            ) from error


def _as_dict(message: Message) -> dict[str, Any]:
    # Templates know "system"; "developer" is OpenAI's newer name for it.
    turn: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content,
    }
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls is not None:
        turn["tool_calls"] = message.tool_calls
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
