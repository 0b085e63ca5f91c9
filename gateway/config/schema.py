"""Every key of a config, once: its kind, unit and meaning.

Validation (walk.py), `describe`, the JSON and the reference in docs/configuration.md are all driven by the
tables here and in schema_endpoint.py; defaults are those of the structs they name. To add a key: a field in
settings.py or routing/version.py, a line here, `python -m gateway.config.reference docs/configuration.md`.
"""

from __future__ import annotations

import re

from gateway.config.addresses import Listen, Remote, Url
from gateway.config.kinds import Boolean, Integer, Name, Number, Patterns, Sha256, Text, Texts
from gateway.config.schema_endpoint import ENDPOINT, NAME, PATH, PLAIN_RULE
from gateway.config.settings import (
    GIB,
    MIB,
    Config,
    EngineConfig,
    JournalConfig,
    KeyConfig,
    LimitsConfig,
    ServerConfig,
    TracesConfig,
)
from gateway.config.shape import Key, Listed, Named, Table

SERVER = Table(
    ServerConfig,
    (
        Key("http", Listen(), "where the OpenAI API listens"),
        Key("grpc", Listen(), "where gRPC listens"),
        Key("metrics", Listen(), "where Prometheus metrics are served"),
        Key("workers", Integer(0, 1024), "gateway processes that share the ports", default="0 (one per core)"),
        Key("state", PATH, "the folder for logs and everything else that must outlive a restart"),
    ),
)

ENGINE = Table(
    EngineConfig,
    (
        Key(
            "url",
            Remote(),
            "the Triton to use; empty starts the embedded one",
            default='"" (embedded)',
            stand_in="unsound",
        ),
        Key("connections", Integer(1, 64), "HTTP/2 connections from each worker to Triton"),
        Key(
            "environment",
            PATH,
            "the virtual environment that holds the embedded Triton; unused with `url`",
            default='"" (the one that `make` creates)',
        ),
        Key(
            "start_timeout_s",
            Number(0, 3600, above=True),
            "how long the embedded Triton may take to start",
            "seconds",
        ),
        Key(
            "models",
            Named(
                "MODEL",
                re.compile(NAME),
                f"a model's name has {PLAIN_RULE}",
                Text("the path of a .gguf file or of a folder with OpenVINO IR", 4096, empty=False),
            ),
            "a further model for the embedded Triton: a .gguf file, or a folder with openvino_model.xml",
            default="none",
        ),
    ),
)

LIMITS = Table(
    LimitsConfig,
    (
        Key("body_bytes", Integer(1024, 1024 * MIB), "the largest request body; above it 413", "bytes"),
        Key("header_bytes", Integer(1024, MIB), "the largest header block; above it 431", "bytes"),
        Key(
            "header_timeout_s",
            Number(0, 3600, above=True),
            "for a request's headers to arrive; then 408",
            "seconds",
        ),
        Key(
            "body_timeout_s",
            Number(0, 3600, above=True),
            "for a request's body to arrive; then 408",
            "seconds",
        ),
        Key("request_timeout_s", Number(0, 86400, above=True), "for the whole answer; then 504", "seconds"),
        Key(
            "idle_timeout_s",
            Number(1, 86400),
            "for a connection to be idle; then it is closed",
            "seconds",
        ),
        Key("concurrent_requests", Integer(1, 1_000_000), "requests under way in one worker; above it 429"),
        Key(
            "client_buffer_bytes",
            Integer(4096, 1024 * MIB),
            "text that waits for a client that reads too slowly; above it the stream is broken off",
            "bytes",
        ),
    ),
)

JOURNAL = Table(
    JournalConfig,
    (
        Key("segment_bytes", Integer(64 * 1024, 4 * GIB), "a worker begins a new file at this size", "bytes"),
        Key("segment_age_s", Number(1, 7 * 86400), "a worker begins a new file at this age", "seconds"),
        Key("keep_days", Number(0, 36500, above=True), "older files are deleted", "days"),
        Key("keep_bytes", Integer(64 * 1024, 1 << 50), "above this total size the oldest files are deleted", "bytes"),
        Key(
            "memory_bytes",
            Integer(64 * 1024, 16 * GIB),
            "records of one worker that wait for the disk; above it they are dropped, and counted",
            "bytes",
        ),
        Key("redact", Patterns(64), "what matches is blacked out before it is written"),
    ),
)

TRACES = Table(
    TracesConfig,
    (
        Key(
            "otlp",
            Url(
                '"http://HOST:PORT" or "https://…" of an OTLP/HTTP receiver, such as "http://collector:4318"',
                "/v1/traces",
            ),
            "where spans are sent; empty sends none",
        ),
        Key("share", Number(0, 1), "the share of requests that is traced, beside errors and slow ones"),
        Key("slow_s", Number(0, 86400, above=True), "requests that took this long are always traced", "seconds"),
        Key("engine", Boolean(), "whether the embedded Triton sends spans of its own too"),
    ),
)

KEY = Table(
    KeyConfig,
    (
        Key(
            "name",
            Name(f"a name: {PLAIN_RULE}, 64 characters at most", re.compile(rf"(?=.{{1,64}}\Z){NAME}")),
            "what the journal calls its bearer; never the key itself",
        ),
        Key("sha256", Sha256(), "what `sha256sum` says of it; the key itself stands nowhere"),
        Key(
            "endpoints",
            Texts(1000, least=1, example='["*"]'),
            'the endpoints that it may use, "*" for all; others look as if they did not exist',
        ),
    ),
    secret=True,
)

ROOT = Table(
    Config,
    (
        Key("server", SERVER, "where the gateway listens and keeps its state", default="see below"),
        Key("engine", ENGINE, "the Triton behind the gateway", default="see below"),
        Key("limits", LIMITS, "what the gateway puts up with", default="see below"),
        Key("journal", JOURNAL, "the record of every inference", default="see below"),
        Key("traces", TRACES, "OpenTelemetry spans, made from the journal", default="see below"),
        Key("keys", Listed(KEY, 10_000), "who may call; see [Keys](#keys)", default="none (loopback only)"),
        Key(
            "endpoints",
            Named(
                "ENDPOINT",
                re.compile(rf"(?=.{{1,128}}\Z){NAME}(?:/{NAME})*"),
                f"an endpoint's name has {PLAIN_RULE}, parts joined by /, and no @",
                ENDPOINT,
                needed=".NAME.versions.v1",
                stand_in={},
            ),
            "the public names that clients send as `model`",
            default="required",
        ),
    ),
)
