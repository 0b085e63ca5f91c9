"""A config in words, for `penstock check`, and as JSON.

Both walk the schema, so a new key appears without a line here; what is written below is only what several
keys mean together.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from gateway.config.schema import ENGINE, JOURNAL, LIMITS, ROOT, SERVER, TRACES
from gateway.config.schema_endpoint import CEILINGS, SAMPLING
from gateway.config.settings import Config, EngineConfig, KeyConfig, ModelSource
from gateway.config.shape import Key, Listed, Named, Table
from gateway.keys import EVERY_ENDPOINT
from gateway.routing.version import Endpoint, Price, Version

_CONTENT = {
    "full": "the journal keeps content in full",
    "hashed": "the journal keeps hashes in place of content",
    "none": "the journal keeps no content",
}
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def describe(config: Config) -> str:
    """What the config means, in words: one line per key, one paragraph per part."""
    parts = [
        ["server", *_rows(SERVER, config.server)],
        [f"engine: {_engine(config.engine)}", *_rows(ENGINE, config.engine, skip=("url", "models"))],
        ["limits", *_rows(LIMITS, config.limits)],
        ["journal", *_rows(JOURNAL, config.journal)],
        ["traces", *_rows(TRACES, config.traces)],
        _keys(config.keys),
        *(_endpoint(endpoint) for endpoint in config.endpoints.values()),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def to_json(config: Config) -> str:
    """The config as indented JSON in the shape of its TOML, defaults and chat templates filled in.

    Each version also has its `template_vars` and its `fingerprint`.
    """
    return json.dumps(_plain(ROOT, config), indent=2, ensure_ascii=False)


def in_unit(value: object, unit: str) -> str:
    """A plain value as a person would write it: 4 MiB, 600 seconds, "none" for the empty string."""
    if unit == "bytes" and isinstance(value, int):
        for size, name in _BYTES:
            if value >= size and value % size == 0:
                return f"{value // size} {name}"
    if value is None:
        return "the engine's own"
    if value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, tuple):
        return ", ".join(json.dumps(item, ensure_ascii=False) for item in value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".rstrip()


def _rows(table: Table, struct: Struct, skip: tuple[str, ...] = (), indent: str = "  ") -> list[str]:
    shown = [(key.name, _shown(key, struct), key.meaning) for key in table.keys if key.name not in skip]
    first, second = (max(len(row[column]) for row in shown) for column in (0, 1))
    return [f"{indent}{name:<{first}}  {value:<{second}}  {meaning}" for name, value, meaning in shown]


def _shown(key: Key, struct: Struct) -> str:
    value = getattr(struct, key.name)
    if key.name == "workers" and value == 0:
        return "one per core"
    if key.name == "environment" and not value:
        return "the default one"
    return in_unit(value, key.unit)


def _engine(engine: EngineConfig) -> str:
    if engine.url:
        return f"the Triton at {engine.url}, which someone else runs"
    text = "an embedded Triton, with the models that Penstock ships"
    return text + "".join(f", and '{name}' from {source.path}" for name, source in engine.models.items())


def _keys(keys: tuple[KeyConfig, ...]) -> list[str]:
    if not keys:
        return ["keys: none, so whoever reaches the gateway may call; it listens on loopback only"]
    width = max(len(key.name) for key in keys)
    head = "keys: one, which" if len(keys) == 1 else f"keys: {len(keys)}, one of which"
    rows = [f"  {key.name:<{width}}  {_may_use(key)}; sha256 {key.sha256[:8]}…" for key in keys]
    return [f"{head} each call must carry", *rows]


def _may_use(key: KeyConfig) -> str:
    return "every endpoint" if EVERY_ENDPOINT in key.endpoints else ", ".join(key.endpoints)


def _endpoint(endpoint: Endpoint) -> list[str]:
    count = len(endpoint.versions)
    head = f"endpoint {endpoint.name}: " + ("one version" if count == 1 else f"{count} versions, {_sticky(endpoint)}")
    total = sum(endpoint.split.values())
    lines = [head]
    for version in endpoint.versions.values():
        share = endpoint.split[version.name] / total
        who = f"{100 * share:.6g} % of callers" if share else "only for those who pin it"
        lines.append(f"  {version.label}: {who}")
        lines += [f"    {line}" for line in _version(version)]
    return [*lines, f"  {_CONTENT[endpoint.content]}; spans carry {'it too' if endpoint.content_in_traces else 'none'}"]


def _sticky(endpoint: Endpoint) -> str:
    if endpoint.sticky == "none":
        return "each request split by itself"
    by = "the request's user field" if endpoint.sticky == "user" else f"the header {endpoint.sticky.partition(':')[2]}"
    return f"sticky by {by}" + (f", salted with '{endpoint.salt}'" if endpoint.salt else "")


def _version(version: Version) -> list[str]:
    triton = f"version {version.model_version}" if version.model_version else "whatever version Triton chooses"
    lines = [f"model {version.model}, {triton}", _template(version)]
    if version.tokenizer:
        lines.append(f"tokens counted with {version.tokenizer} where the model cannot")
    lines.append(f"unless the client says otherwise: {_inline(SAMPLING, version.defaults)}")
    lines.append(f"at most: {_inline(CEILINGS, version.limits)}")
    lines.append(f"determinism {version.determinism}; text mode {version.text_mode}; {_price(version.price)}")
    return lines


def _template(version: Version) -> str:
    if not version.chat_template:
        return "no chat template: completions only"
    tokens = ", ".join(name for name, _ in version.template_vars)
    return f"chat template of {len(version.chat_template)} characters" + (f", with {tokens}" if tokens else "")


def _inline(table: Table, struct: Struct) -> str:
    """The values that are set, on one line."""
    values = {key.name: getattr(struct, key.name) for key in table.keys}
    return ", ".join(f"{name} {in_unit(value, '')}" for name, value in values.items() if value not in (None, ()))


def _price(price: Price | None) -> str:
    if price is None:
        return "price unknown"
    # A nano-USD per token is a thousandth of a USD per million tokens.
    return f"price '{price.name}': {price.input / 1000:g} USD per million tokens in, {price.output / 1000:g} out"


def _plain(kind: object, value: Any) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(kind, Table):
        fields = {key.name: _plain(key.kind, getattr(value, key.name)) for key in kind.keys}
        if isinstance(value, Version):
            fields |= {"template_vars": dict(value.template_vars), "fingerprint": value.fingerprint}
        return fields
    if isinstance(kind, Listed):
        return [_plain(kind.table, item) for item in value]
    if isinstance(kind, Named):
        return {name: _plain(kind.kind, item) for name, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return str(value.path) if isinstance(value, ModelSource) else str(value)
