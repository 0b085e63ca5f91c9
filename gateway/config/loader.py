"""load: the one way from a file, or from nothing, to a Config.

It reads top to bottom: text, keys, flags, then the parts in the order in which they depend on each other.
Every step notes its problems in one Report, and only the last line decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.config.access import build_keys, check_reach
from gateway.config.build import build_endpoints, build_engine, build_journal, build_server
from gateway.config.default import default_text
from gateway.config.embedded import embedded_repository
from gateway.config.problem import Report
from gateway.config.schema import ROOT, SERVER
from gateway.config.settings import Config, LimitsConfig, Overrides, TracesConfig
from gateway.config.site import look_at
from gateway.config.text import parse, read_config
from gateway.config.walk import MISSING, walk

BUILT_IN = "built-in default"
NO_OVERRIDES = Overrides()


def load(path: Path | None, *, overrides: Overrides = NO_OVERRIDES, repository: Path | None = None) -> Config:
    """The config of a file, or the built-in default, with what the command line says in its place.

    Relative paths are relative to the file's folder, to the working folder for the built-in default.
    `repository` is the model repository of the embedded Triton; None for the shipped one.
    Errors: ConfigError with every problem that could be found; nothing is half loaded.
    """
    name = str(path) if path is not None else BUILT_IN
    data = read_config(path) if path is not None else default_text().encode()
    folder = path.absolute().parent if path is not None else Path.cwd()
    values, lines = parse(data, name)
    report = Report(name, lines)
    given: dict[str, Any] = walk(ROOT, values, (), report)
    _override(given, overrides, report)
    server = build_server(given.get("server", {}), folder, report)
    engine = build_engine(given.get("engine", {}), folder, report)
    named = frozenset(given.get("engine", {}).get("models", {}))
    site = look_at(folder, repository or embedded_repository(), engine, named, report)
    endpoints = build_endpoints(given.get("endpoints", {}), site, report)
    journal = build_journal(given.get("journal", {}), report)
    keys = build_keys(given.get("keys", []), endpoints, report)
    check_reach(server, bool(values.get("keys")), report)  # as written: keys that are unsound have been reported
    report.raise_if_any()
    limits, traces = LimitsConfig(**given.get("limits", {})), TracesConfig(**given.get("traces", {}))
    return Config(server, engine, limits, endpoints, journal, traces, keys)


def _override(given: dict[str, Any], overrides: Overrides, report: Report) -> None:
    """Put the flags in place of the keys of [server], read by the same rules."""
    for name in overrides.__struct_fields__:
        value = getattr(overrides, name)
        if value is None:
            continue
        if name == "state":
            value = str(Path(value).absolute()) if value else ""
        elif name == "workers" and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        report.flags["server", name] = f"--{name}"
        read = walk(SERVER.by_name[name].kind, value, ("server", name), report)
        if read is not MISSING:
            given.setdefault("server", {})[name] = read
