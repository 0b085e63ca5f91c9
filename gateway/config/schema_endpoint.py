"""The keys of an endpoint and of what it has in it; see schema.py."""

from __future__ import annotations

import re

from gateway.config.kinds import Boolean, Choice, Digits, Integer, Number, Sticky, Text, Texts
from gateway.config.settings import MIB
from gateway.config.shape import Key, Named, Table
from gateway.routing.version import Endpoint, Price, SamplingDefaults, SamplingLimits, Version

_INT32 = 2**31 - 1
PATH = Text("a path", 4096)
NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?"
PLAIN_RULE = "letters, digits and . _ - inside"
VERSION_NAME = re.compile(r"(?=.{1,64}\Z)" + NAME)
VERSION_RULE = f"a version's name has {PLAIN_RULE}, 64 characters at most"

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
        Key("tokenizer", PATH, "a tokenizer.json, or its folder; counts tokens where the model cannot"),
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
        Key("content", Choice(("full", "hashed", "none")), "how the journal keeps messages and answers"),
        Key("content_in_traces", Boolean(), "whether spans carry messages and answers too"),
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
