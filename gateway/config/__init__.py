"""Floor 2: TOML → frozen structs. A config is taken whole or refused whole; a refusal says what would do.

text.py      bytes → TOML values with lines (locate.py)
shape.py     what a schema is made of
schema.py    every key: its kind (kinds.py, addresses.py), unit and meaning; defaults in settings.py;
             schema_endpoint.py those of an endpoint
walk.py      values against the schema
build.py     what spans keys: paths, ports, splits, chat templates (template.py, gguf.py), models (site.py)
access.py    who may call: the keys, and loopback where there are none
loader.py    all of it, in order
summary.py   a config in words and as JSON; reference.py the tables of docs/configuration.md
"""

from gateway.config.embedded import embedded_repository
from gateway.config.loader import load
from gateway.config.problem import ConfigError, Problem
from gateway.config.settings import (
    Address,
    Config,
    EngineConfig,
    JournalConfig,
    KeyConfig,
    LimitsConfig,
    ModelSource,
    Overrides,
    ServerConfig,
    TracesConfig,
)
from gateway.config.summary import describe, to_json

__all__ = [
    "Address",
    "Config",
    "ConfigError",
    "EngineConfig",
    "JournalConfig",
    "KeyConfig",
    "LimitsConfig",
    "ModelSource",
    "Overrides",
    "Problem",
    "ServerConfig",
    "TracesConfig",
    "describe",
    "embedded_repository",
    "load",
    "to_json",
]
