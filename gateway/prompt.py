"""Prompt templates: from messages to the text that a model reads.

Templates are Jinja as Hugging Face's tokenizer_config.json writes them, run in a sandbox: they come from
model repositories and are data, not code. The helpers that such templates call are the ones that
`transformers` gives them (`raise_exception`, `strftime_now`, a `tojson` that keeps characters as they
are, `tools` and `documents` as none); the date comes in as an argument, for this floor reads no clock.
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

# Whatever a template runs into while it reads messages. LookupError and OverflowError (ArithmeticError) are how
# the sandbox itself refuses some format strings and ranges.
_REFUSALS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)


class PromptTemplate:
    """A compiled chat template. Errors: `jinja2.TemplateSyntaxError` from the constructor."""

    __slots__ = ("_constants", "_template")

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        self._template = template = environment.from_string(source)
        template.globals = dict(template.globals)  # a chain of mappings otherwise, walked anew for each prompt
        self._constants = {
            **template.globals,
            **(variables or {}),
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
        }

    def render(self, messages: Sequence[Message], now: datetime) -> str:
        """The prompt, ending where the assistant is to speak. Errors: BadRequest when the template refuses."""
        try:
            # What Template.render does, with a context of our own making.
            variables = {
                **self._constants,
                "messages": [_as_dict(message) for message in messages],
                "strftime_now": now.strftime,
            }
            context = self._template.new_context(variables, shared=True)
            return "".join(self._template.root_render_func(context))
        except _REFUSALS as error:
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


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
