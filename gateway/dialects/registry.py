"""Every dialect, one line each."""

from __future__ import annotations

from gateway.dialects.base import Dialect
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions

DIALECTS: tuple[Dialect, ...] = (
    OpenAIChat(),
    OpenAICompletions(),
)
BY_PATH: dict[bytes, Dialect] = {dialect.path: dialect for dialect in DIALECTS}
