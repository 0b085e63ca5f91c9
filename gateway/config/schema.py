"""Every key of a config, once: its kind, unit and meaning.

Validation (walk.py), `describe`, the JSON and the reference in docs/configuration.md are all driven by the
tables below; defaults are those of the structs they name. To add a key: a field in settings.py or
routing/version.py, a line here, `python -m gateway.config.reference --write`.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

from gateway.config.kinds import Choice, Digits, Integer, Kind, Listen, Number, Remote, Sticky, Text, Texts
from gateway.config.settings import MIB, Config, EngineConfig, LimitsConfig, ServerConfig
from gateway.routing.version import Endpoint, Price, SamplingDefaults, SamplingLimits, Version

REQUIRED: Any = msgspec.NODEFAULT
_INT32 = 2**31 - 1


class Key(Struct, frozen=True):
    """One key. `default` in words replaces the struct's where it is not a plain value.

    `stand_in` takes the place of an unsound value, which has been reported, so that later rules do not
    report its consequences; None leaves the key out.
    """

    name: str
    kind: Kind | Table | Named
    meaning: str
    unit: str = ""
    default: str = ""
    stand_in: Any = None


class Table(Struct, frozen=True, dict=True):
    """A table with known keys. `struct` gives the defaults; one without a default is required."""

    struct: type[Struct]
    keys: tuple[Key, ...]
    wanted: str = "a table"

    @cached_property
    def by_name(self) -> dict[str, Key]:
        return {key.name: key for key in self.keys}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Field → default, or REQUIRED."""
        return {
            field.name: field.default if field.default_factory is REQUIRED else field.default_factory()
            for field in msgspec.structs.fields(self.struct)
        }


class Named(Struct, frozen=True):
    """A table whose keys are names that the user chooses. `rule` says in words what a name may be.

    `needed` is set where there must be at least one: what is missing from the header of one that would do.
    `stand_in` is as in Key, for one entry.
    """

    placeholder: str
    pattern: re.Pattern[str]
    rule: str
    kind: Kind | Table
    needed: str = ""
    stand_in: Any = None
    wanted: str = "a table"


_PATH = Text("a path", 4096)
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?"
_PLAIN_RULE = "letters, digits and . _ - inside"
VERSION_NAME = re.compile(r"(?=.{1,64}\Z)" + _NAME)
VERSION_RULE = f"a version's name has {_PLAIN_RULE}, 64 characters at most"

SERVER = Table(
    ServerConfig,
    (
        Key("http", Listen(), "where the OpenAI API listens"),
        Key("grpc", Listen(), "where gRPC listens"),
        Key("metrics", Listen(), "where Prometheus metrics are served"),
        Key("workers", Integer(0, 1024), "gateway processes that share the ports", default="0 (one per core)"),
        Key("state", _PATH, "the folder for logs and everything else that must outlive a restart"),
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
            _PATH,
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
                re.compile(_NAME),
                f"a model's name has {_PLAIN_RULE}",
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

SAMPLING = Table(
    SamplingDefaults,
    (
        Key("max_tokens", Integer(1, _INT32), "the longest answer", "tokens"),
        Key("temperature", Number(0, 10), "0 takes the most likely token each time"),
        Key("top_p", Number(0, 1, above=True), "the probability mass that is drawn from"),
        Key("top_k", Integer(0, _INT32), "how many tokens are drawn from; 0 is all"),
        Key("repetition_penalty", Number(0, 10, above=True), "above 1 discourages repetition"),
        Key("stop", Texts(16), "strings that end the answer"),
    ),
)

CEILINGS = Table(
    SamplingLimits,
    (
        Key("max_tokens", Integer(1, _INT32), "the most tokens that a client may ask for", "tokens"),
        Key("temperature", Number(0, 10), "the highest temperature that a client may ask for"),
        Key("n", Integer(1, 128), "the most choices that a client may ask for"),
    ),
)

PRICE = Table(
    Price,
    (
        Key(
            "name",
            Text("the name of this price", 64, empty=False),
            "the price's own version, which records carry",
        ),
        Key("input", Integer(0, 10**12), "for each token of the prompt", "nano-USD"),
        Key("output", Integer(0, 10**12), "for each token of the answer", "nano-USD"),
    ),
)

VERSION = Table(
    Version,
    (
        Key("model", Text("the name of a model", 128, empty=False), "the model's name in Triton"),
        Key("model_version", Digits(), "the model's version in Triton; empty is Triton's choice"),
        Key(
            "chat_template",
            Text("a path, or Jinja with {{ or {%", MIB, lines=True),
            "what makes a prompt of messages: a .jinja file, a tokenizer_config.json, a .gguf, "
            "a folder that holds one, or Jinja itself (anything with `{{` or `{%`)",
            default="the model's own; none with `engine.url`",
        ),
        Key("tokenizer", _PATH, "a tokenizer.json, or its folder; counts tokens where the model cannot"),
        Key(
            "determinism",
            Choice(("free", "seeded", "greedy")),
            "who decides on randomness; see [Determinism](#determinism)",
        ),
        Key(
            "text_mode",
            Choice(("auto", "delta", "cumulative")),
            "whether each message of the model brings new text or all text so far; auto finds out",
        ),
        Key("defaults", SAMPLING, "what applies where the client says nothing", default="see below"),
        Key("limits", CEILINGS, "what a client may ask for; above it 400", default="see below"),
        Key("price", PRICE, "what a token costs", default="none (unknown, which is not 0)"),
    ),
)

ENDPOINT = Table(
    Endpoint,
    (
        Key(
            "sticky",
            Sticky(),
            "what keeps a caller on one version: the request's `user`, a header, or nothing",
        ),
        Key(
            "salt",
            Text("a string", 128),
            "callers of endpoints with one salt and equal splits fall alike",
            default="the endpoint's name",
        ),
        Key(
            "split",
            Named("VERSION", VERSION_NAME, VERSION_RULE, Number(0, 1e15), stand_in=1.0),
            "a version's weight; shares are relative, and 0 leaves it to pins",
            default="all to the only version",
        ),
        Key(
            "versions",
            Named("VERSION", VERSION_NAME, VERSION_RULE, VERSION, needed=".v1", stand_in={}),
            "an endpoint's versions",
            default="required",
        ),
    ),
)

ROOT = Table(
    Config,
    (
        Key("server", SERVER, "where the gateway listens and keeps its state", default="see below"),
        Key("engine", ENGINE, "the Triton behind the gateway", default="see below"),
        Key("limits", LIMITS, "what the gateway puts up with", default="see below"),
        Key(
            "endpoints",
            Named(
                "ENDPOINT",
                re.compile(rf"(?=.{{1,128}}\Z){_NAME}(?:/{_NAME})*"),
                f"an endpoint's name has {_PLAIN_RULE}, parts joined by /, and no @",
                ENDPOINT,
                needed=".NAME.versions.v1",
                stand_in={},
            ),
            "the public names that clients send as `model`",
            default="required",
        ),
    ),
)
