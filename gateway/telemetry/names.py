"""The names in our spans, all of them.

`gen_ai.*`, `error.type`, `server.*` and `rpc.*` follow OpenTelemetry's semantic conventions. Those for generative AI
are in development and move, so each name stands once, here. What no convention has is `penstock.*`.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "penstock"
SERVICE: Final = "penstock"

# What was asked
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
STREAM: Final = "gen_ai.request.stream"
CHOICE_COUNT: Final = "gen_ai.request.choice.count"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
TOP_P: Final = "gen_ai.request.top_p"
TOP_K: Final = "gen_ai.request.top_k"
SEED: Final = "gen_ai.request.seed"
PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"

# What was answered
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
ERROR_TYPE: Final = "error.type"

# Opt-in
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

# The call to the engine
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"

# Ours
ENDPOINT: Final = "penstock.endpoint"
VERSION: Final = "penstock.version"
REASON: Final = "penstock.reason"
OUTCOME: Final = "penstock.outcome"
FACE: Final = "penstock.face"
DIALECT: Final = "penstock.dialect"
REQUEST_ID: Final = "penstock.request_id"
API_KEY: Final = "penstock.api_key"
FINGERPRINT: Final = "penstock.fingerprint"
DETERMINISM: Final = "penstock.determinism"
GUIDE: Final = "penstock.guide"
WORKER: Final = "penstock.worker"
STATUS: Final = "penstock.status"
"""HTTP's, of an error."""
OVERHEAD: Final = "penstock.overhead"
"""Seconds in us before the engine was asked."""
COST: Final = "penstock.cost"
"""Nano-USD."""
PRICE: Final = "penstock.price"

# Events on the call to the engine
FIRST_TEXT: Final = "penstock.first_text"
LAST_TEXT: Final = "penstock.last_text"
