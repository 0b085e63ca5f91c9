"""A record as spans: one for the request as its caller sees it, and below it one for the engine's part. Pure.

The lower one has the id that was sent to Triton (`engine_span`), so Triton's own spans hang under it. It is there when
the engine was asked; the n answers of one request share it.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from msgspec import Struct

from gateway.core.request import Message
from gateway.journal.record import Record, Trace
from gateway.telemetry import names
from gateway.telemetry.selection import is_error
from gateway.trace_context import engine_span

Value = str | bool | int | float | tuple[str, ...]

_NS = 1e9
_OPERATIONS = {"openai_chat": "chat", "openai_completions": "text_completion"}
_METHOD = "inference.GRPCInferenceService/ModelStreamInfer"
_SAMPLING = (
    (names.MAX_TOKENS, "max_tokens"),
    (names.TEMPERATURE, "temperature"),
    (names.TOP_P, "top_p"),
    (names.TOP_K, "top_k"),
    (names.SEED, "seed"),
    (names.PRESENCE_PENALTY, "presence_penalty"),
    (names.FREQUENCY_PENALTY, "frequency_penalty"),
)
_LARGEST_INT = 2**63 - 1  # OTLP's integers are signed; a seed may be larger


class SpanData(Struct, frozen=True):
    """One span. Ids are hex, `parent` is "" at a root; times are Unix nanoseconds. `error` is None where all is well
    on our side, else the status's description. `remote` says that the parent is in another process."""

    name: str
    kind: Literal["server", "client"]
    trace: str
    span: str
    parent: str
    remote: bool
    state: str
    start: int
    end: int
    attributes: dict[str, Value]
    events: tuple[tuple[str, int], ...] = ()
    error: str | None = None


def spans_of(record: Record, *, content: bool = False) -> list[SpanData]:
    """The spans of a record, none where it has no trace. `content` puts prompts and answers in, as far as the record
    has them in full."""
    trace = record.trace
    if trace is None:
        return []
    error = _error(record)
    request = SpanData(
        name=f"{operation_of(record)} {record.endpoint}".rstrip(),
        kind="server",
        trace=trace.trace,
        span=trace.span,
        parent=trace.parent,
        remote=bool(trace.parent),
        state=trace.state,
        start=record.at,
        end=record.at + record.ended,
        attributes=_request_attributes(record, content=content and record.content == "full"),
        error=error,
    )
    return [request] if record.sent is None else [request, _engine(record, trace, record.sent, error)]


def operation_of(record: Record) -> str:
    """The convention's word for what was asked."""
    known = _OPERATIONS.get(record.dialect)
    return known or ("text_completion" if record.prompts else "chat")


def _error(record: Record) -> str | None:
    if not is_error(record.outcome):
        return None
    return record.failure.message if record.failure is not None else ""


def _engine(record: Record, trace: Trace, sent: int, error: str | None) -> SpanData:
    host, _, port = record.replica.rpartition(":")
    attributes: dict[str, Value] = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: _METHOD, names.VERSION: _label(record)}
    if host and port.isdecimal():
        attributes |= {names.SERVER_ADDRESS: host.strip("[]"), names.SERVER_PORT: int(port)}
    if error is not None and record.failure is not None:
        attributes[names.ERROR_TYPE] = record.failure.code
    moments = ((names.FIRST_TEXT, record.first_text), (names.LAST_TEXT, record.last_text))
    return SpanData(
        name=f"triton {_label(record)}",
        kind="client",
        trace=trace.trace,
        span=engine_span(trace.span),
        parent=trace.span,
        remote=False,
        state=trace.state,
        start=record.at + sent,
        end=record.at + record.ended,
        attributes=attributes,
        events=tuple((name, record.at + moment) for name, moment in moments if moment is not None),
        error=error,
    )


def _request_attributes(record: Record, *, content: bool) -> dict[str, Value]:
    # What is empty or unknown is left out, as in the record.
    found: dict[str, Value | None] = {
        names.OPERATION: operation_of(record),
        # Of the conventions' providers none is ours; to its callers the gateway is the one that answers.
        names.PROVIDER: names.SERVICE,
        names.REQUEST_MODEL: record.model or None,
        names.STREAM: record.stream or None,
        names.CHOICE_COUNT: record.n if record.n != 1 else None,
        **_sampling_attributes(record),
        names.RESPONSE_ID: record.id,
        names.RESPONSE_MODEL: _label(record) or None,
        names.FINISH_REASONS: tuple(choice.finish or "error" for choice in record.choices) or None,
        names.TIME_TO_FIRST_CHUNK: _seconds(record.first_text),
        names.INPUT_TOKENS: record.prompt_tokens,
        names.OUTPUT_TOKENS: record.completion_tokens,
        names.ENDPOINT: record.endpoint or None,
        names.VERSION: record.version or None,
        names.REASON: record.reason or None,
        names.OUTCOME: record.outcome,
        names.FACE: record.face,
        names.DIALECT: record.dialect or None,
        names.REQUEST_ID: record.request_id or None,
        names.API_KEY: record.api_key or None,
        names.FINGERPRINT: record.fingerprint or None,
        names.DETERMINISM: record.determinism or None,
        names.GUIDE: record.guide or None,
        names.WORKER: record.worker,
        names.OVERHEAD: _seconds(record.overhead),
        names.COST: record.cost,
        names.PRICE: record.price or None,
    }
    if record.failure is not None:
        found |= {names.ERROR_TYPE: record.failure.code, names.STATUS: record.failure.status}
    if content:
        found |= _content(record)
    return {name: value for name, value in found.items() if value is not None}


def _sampling_attributes(record: Record) -> dict[str, Value | None]:
    sampling = record.sampling
    if sampling is None:
        return {}
    found: dict[str, Value | None] = {name: _bounded(getattr(sampling, field)) for name, field in _SAMPLING}
    found[names.STOP_SEQUENCES] = sampling.stop or None
    return found


def _bounded(value: Any) -> Any:
    return str(value) if isinstance(value, int) and value > _LARGEST_INT else value


def _content(record: Record) -> dict[str, Value | None]:
    # The conventions' JSON, as one string each: attributes hold no objects.
    asked = [{"role": message.role, "parts": _parts(message)} for message in record.messages]
    asked += [{"role": "user", "parts": [_text(prompt)]} for prompt in record.prompts]
    answered = [
        {"role": "assistant", "parts": [_text(choice.text)], "finish_reason": choice.finish or "error"}
        for choice in record.choices
    ]
    return {
        names.INPUT_MESSAGES: json.dumps(asked) if asked else None,
        names.OUTPUT_MESSAGES: json.dumps(answered) if answered else None,
    }


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.tool_call_id is not None:
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}]
    parts = [_text(message.content)] if message.content or not message.tool_calls else []
    return parts + [_tool_call(call) for call in message.tool_calls or ()]


def _tool_call(call: Any) -> dict[str, Any]:
    # As the client wrote it, in OpenAI's shape; what has another shape goes along whole.
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return {"type": "tool_call", "arguments": call}
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments"),
    }


def _text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def _label(record: Record) -> str:
    return f"{record.endpoint}@{record.version}" if record.version else ""


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NS
