"""Floor 2: TOML → frozen structs. A config is taken whole or refused whole; a refusal says what would do.

text.py      bytes → TOML values with lines (locate.py)
schema.py    every key: its kind (kinds.py), unit and meaning; defaults in settings.py
walk.py      values against the schema
build.py     what spans keys: paths, ports, splits, chat templates (template.py, gguf.py), models (site.py)
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
    LimitsConfig,
    ModelSource,
    Overrides,
    ServerConfig,
)
from gateway.config.summary import describe, to_json

__all__ = [
    "Address",
    "Config",
    "ConfigError",
    "EngineConfig",
    "LimitsConfig",
    "ModelSource",
    "Overrides",
    "Problem",
    "ServerConfig",
    "describe",
    "embedded_repository",
    "load",
    "to_json",
]
