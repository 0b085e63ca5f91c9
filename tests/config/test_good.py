"""Configs that are taken: what each key comes out as."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import (
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
    load,
    to_json,
)
from gateway.routing.version import Price, SamplingDefaults, SamplingLimits

GOOD = '[endpoints.a.versions.v1]\nmodel = "assistant"\n'
REMOTE = '[engine]\nurl = "triton:8001"\n[endpoints.a.versions.v1]\nmodel = "ensemble"\n'
HASH = "AB" * 32
KEYED = f'keys = [{{ name = "k", sha256 = "{HASH}" }}]\n'
Load = Callable[..., Config]


def test_the_smallest(load_text: Load, tmp_path: Path) -> None:
    config = load_text(GOOD)
    assert config.server == ServerConfig(
        Address("127.0.0.1", 8080), Address("127.0.0.1", 8081), Address("127.0.0.1", 8082), 0, tmp_path / ".penstock"
    )
    assert config.engine == EngineConfig("", 2, "", 60.0, {})
    assert config.limits == LimitsConfig(4 << 20, 32 << 10, 10.0, 30.0, 600.0, 75.0, 4096, 4 << 20)
    (endpoint,) = config.endpoints.values()
    assert (endpoint.name, endpoint.sticky, endpoint.salt, endpoint.split) == ("a", "user", "", {"v1": 1.0})
    assert (endpoint.content, endpoint.content_in_traces, endpoint.disabled) == ("full", False, ())
    assert config.journal == JournalConfig(64 << 20, 3600.0, 30.0, 10 << 30, 32 << 20, ())
    assert config.traces == TracesConfig("", 0.01, 10.0, True)
    assert config.keys == ()
    (version,) = endpoint.versions.values()
    assert (version.label, version.model, version.model_version, version.tokenizer) == ("a@v1", "assistant", "", "")
    assert (version.determinism, version.text_mode, version.price) == ("free", "auto", None)
    assert (version.defaults, version.limits) == (SamplingDefaults(), SamplingLimits())


ONE_KEY: list[tuple[str, str, Any]] = [
    (f'{KEYED}[server]\nhttp = "0.0.0.0:80"', "server.http", Address("0.0.0.0", 80)),
    ('[server]\nhttp = "[::1]:80"', "server.http", Address("::1", 80)),
    (f'{KEYED}[server]\nhttp = "gateway.internal:0"', "server.http", Address("gateway.internal", 0)),
    (f'{KEYED}[server]\ngrpc = "10.0.0.9:1"', "server.grpc", Address("10.0.0.9", 1)),
    ('[server]\nhttp = "LocalHost:80"', "server.http", Address("LocalHost", 80)),
    ('[server]\nmetrics = "0.0.0.0:80"', "server.metrics", Address("0.0.0.0", 80)),
    ('server.grpc = "127.0.0.1:65535"', "server.grpc", Address("127.0.0.1", 65535)),
    ('[server]\nhttp="127.0.0.1:0"\ngrpc="127.0.0.1:0"', "server.grpc", Address("127.0.0.1", 0)),
    ('[server]\nhttp="127.0.0.2:9"\ngrpc="127.0.0.3:9"', "server.grpc", Address("127.0.0.3", 9)),
    ("[server]\nworkers = 8", "server.workers", 8),
    ('[server]\nstate = "/var/lib/penstock"', "server.state", Path("/var/lib/penstock")),
    ("[limits]\nbody_bytes = 1_048_576", "limits.body_bytes", 1 << 20),
    ("[limits]\nheader_timeout_s = 1", "limits.header_timeout_s", 1.0),
    ("[limits]\nheader_timeout_s = 0.25", "limits.header_timeout_s", 0.25),
    ("[engine]\nconnections = 4", "engine.connections", 4),
    ('[engine]\nurl = "10.0.0.7:8001"', "engine.url", "10.0.0.7:8001"),
    ('[engine]\nurl = "[fd00::7]:8001"', "engine.url", "[fd00::7]:8001"),
    ('[engine]\nurl = ""', "engine.url", ""),
    ('[engine]\nenvironment = "/opt/triton"', "engine.environment", "/opt/triton"),
    ('[engine]\nenvironment = ""', "engine.environment", ""),
    ("[engine]\nstart_timeout_s = 120", "engine.start_timeout_s", 120.0),
    ("[journal]\nsegment_bytes = 65536", "journal.segment_bytes", 1 << 16),
    ("[journal]\nsegment_age_s = 60", "journal.segment_age_s", 60.0),
    ("[journal]\nkeep_days = 0.5", "journal.keep_days", 0.5),
    ("[journal]\nkeep_bytes = 67108864", "journal.keep_bytes", 64 << 20),
    ("[journal]\nmemory_bytes = 1048576", "journal.memory_bytes", 1 << 20),
    ("[journal]\nredact = ['\\d{16}', '(?i)secret: \\S+']", "journal.redact", (r"\d{16}", r"(?i)secret: \S+")),
    ('[traces]\notlp = ""', "traces.otlp", ""),
    ('[traces]\notlp = "http://collector:4318"', "traces.otlp", "http://collector:4318"),
    ('[traces]\notlp = "https://[fd00::7]/otlp/"', "traces.otlp", "https://[fd00::7]/otlp"),
    ("[traces]\nshare = 1", "traces.share", 1.0),
    ("[traces]\nslow_s = 2.5", "traces.slow_s", 2.5),
    ("[traces]\nengine = false", "traces.engine", False),
]


@pytest.mark.parametrize(("text", "key", "value"), ONE_KEY)
def test_one_key(text: str, key: str, value: Any, load_text: Load) -> None:
    table, _, name = key.partition(".")
    read = getattr(getattr(load_text(f"{text}\n{GOOD}"), table), name)
    assert read == value
    assert type(read) is type(value)


def test_a_version_in_full(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    config = load_text("""
[endpoints."org/my.model-2"]
sticky = "header:X-Session-Id"
salt = "s"
split = { v1 = 1.5, canary_2 = 0 }
[endpoints."org/my.model-2".versions.v1]
model = "assistant"
model_version = "2"
chat_template = "{{ messages[0].content }}"
tokenizer = "tokenizer.json"
determinism = "seeded"
text_mode = "cumulative"
defaults = { max_tokens = 5, temperature = 1, top_p = 1, top_k = 0, repetition_penalty = 1.1, stop = ["a", "\\n"] }
limits = { max_tokens = 6, temperature = 1.5, n = 1 }
price = { name = "p", input = 0, output = 7 }
[endpoints."org/my.model-2".versions.canary_2]
model = "assistant"
""")
    endpoint = config.endpoints["org/my.model-2"]
    assert endpoint.sticky == "header:x-session-id"
    assert endpoint.salt == "s"
    assert endpoint.split == {"v1": 1.5, "canary_2": 0.0}
    version = endpoint.versions["v1"]
    assert version.endpoint == endpoint.name
    assert version.model_version == "2"
    assert version.chat_template == "{{ messages[0].content }}"
    assert version.tokenizer == str(tmp_path / "tokenizer.json")
    assert (version.determinism, version.text_mode) == ("seeded", "cumulative")
    assert version.defaults == SamplingDefaults(5, 1.0, 1.0, 0, 1.1, ("a", "\n"))
    assert version.limits == SamplingLimits(6, 1.5, 1)
    assert version.price == Price("p", 0, 7)
    assert isinstance(version.defaults.temperature, float)


def test_keys(load_text: Load) -> None:
    text = f'[[keys]]\nname = "app"\nsha256 = "{HASH}"\n[[keys]]\nname = "Team.2"\nsha256 = "{"0" * 64}"\n'
    config = load_text(f'{text}endpoints = ["a", "*"]\n[server]\nhttp = "0.0.0.0:80"\n{GOOD}')
    keys = (KeyConfig("app", "ab" * 32, ("*",)), KeyConfig("Team.2", "0" * 64, ("a", "*")))
    assert config.keys == keys
    shown = {"name": "app", "sha256": "ab" * 32, "endpoints": ["*"]}
    assert json.loads(to_json(config))["keys"][0] == shown


@pytest.mark.parametrize(
    ("text", "content", "in_traces"),
    [
        ('content = "full"\ncontent_in_traces = true', "full", True),
        ('content = "hashed"\ncontent_in_traces = false', "hashed", False),
        ('content = "none"', "none", False),
    ],
)
def test_content(text: str, content: str, in_traces: bool, load_text: Load) -> None:
    endpoint = load_text(f"[endpoints.a]\n{text}\n{GOOD}").endpoints["a"]
    assert (endpoint.content, endpoint.content_in_traces) == (content, in_traces)


def test_a_version_that_the_split_leaves_out_has_weight_0(load_text: Load) -> None:
    config = load_text(GOOD + '[endpoints.a.versions.v2]\nmodel = "assistant"\n[endpoints.a.split]\nv2 = 3')
    assert config.endpoints["a"].split == {"v1": 0.0, "v2": 3.0}


def test_a_low_limit_lowers_the_default_that_nobody_wrote(load_text: Load) -> None:
    version = load_text(GOOD + "limits = { max_tokens = 100 }").endpoints["a"].versions["v1"]
    assert (version.defaults.max_tokens, version.limits.max_tokens) == (256, 100)  # routing takes the smaller


def test_a_default_may_be_as_high_as_its_limit(load_text: Load) -> None:
    text = "defaults = { max_tokens = 9, temperature = 1 }\nlimits = { max_tokens = 9, temperature = 1 }"
    assert load_text(GOOD + text).endpoints["a"].versions["v1"].defaults.max_tokens == 9


def test_a_remote_triton_has_no_template_by_itself(load_text: Load) -> None:
    config = load_text(REMOTE)
    version = config.endpoints["a"].versions["v1"]
    assert config.engine.url == "triton:8001"
    assert (version.model, version.chat_template, version.template_vars) == ("ensemble", "", ())


def test_models_by_path(load_text: Load, tmp_path: Path, make_gguf: Callable[..., bytes]) -> None:
    (tmp_path / "m.gguf").write_bytes(make_gguf({"tokenizer.chat_template": "{{ x }}"}))
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "openvino_model.xml").write_text("<net/>")
    config = load_text(
        '[engine.models]\nmine = "m.gguf"\nother = "ir"\n'
        "[endpoints.a]\nsplit = { v1 = 1, v2 = 1 }\n"
        '[endpoints.a.versions]\nv1 = { model = "mine" }\nv2 = { model = "other", model_version = "1" }\n'
    )
    assert config.engine.models == {
        "mine": ModelSource(tmp_path / "m.gguf", "gguf"),
        "other": ModelSource(tmp_path / "ir", "openvino"),
    }
    versions = config.endpoints["a"].versions
    assert versions["v1"].chat_template == "{{ x }}"
    assert versions["v2"].chat_template == ""  # a model without a template answers completions


def test_flags_win(load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = '[server]\nhttp = "127.0.0.1:1"\nworkers = 3\nstate = "here"\n' + GOOD
    flags = Overrides(http="127.0.0.1:2", grpc="[::1]:3", metrics="127.0.0.1:0", state="run", workers="0")
    assert load_text(text, overrides=flags).server == ServerConfig(
        Address("127.0.0.1", 2), Address("::1", 3), Address("127.0.0.1", 0), 0, tmp_path / "elsewhere" / "run"
    )
    assert load_text(text, overrides=Overrides(workers=5)).server.workers == 5
    assert load_text(text, overrides=Overrides(state=Path("/run/x"))).server.state == Path("/run/x")
    assert load_text(text).server.state == tmp_path / "here"


def test_a_byte_order_mark_and_crlf_are_taken(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load(path, repository=repository).endpoints["a"].versions["v1"].model == "assistant"


def test_the_result_is_frozen(load_text: Load) -> None:
    config = load_text(GOOD)
    version = config.endpoints["a"].versions["v1"]
    for struct in (
        config,
        config.server,
        config.server.http,
        config.engine,
        config.limits,
        config.endpoints["a"],
        version,
        version.defaults,
        version.limits,
    ):
        for name in struct.__struct_fields__:
            with pytest.raises(AttributeError, match="immutable"):
                setattr(struct, name, getattr(struct, name))


def test_equal_files_give_equal_configs_and_fingerprints(load_text: Load) -> None:
    one, two = load_text(GOOD), load_text(GOOD + "# a comment\n")
    assert one == two
    assert to_json(one) == to_json(two)
    other = load_text(GOOD + "defaults = { temperature = 0 }")
    fingerprints = {config.endpoints["a"].versions["v1"].fingerprint for config in (one, two, other)}
    assert len(fingerprints) == 2


def test_the_json_has_the_shape_of_the_toml(load_text: Load, tmp_path: Path) -> None:
    values = json.loads(to_json(load_text(GOOD + 'price = { name = "p", input = 1, output = 2 }')))
    assert list(values) == ["server", "engine", "limits", "journal", "traces", "keys", "endpoints"]
    assert values["keys"] == []
    assert values["journal"]["redact"] == []
    assert (values["traces"]["otlp"], values["traces"]["engine"]) == ("", True)
    assert values["endpoints"]["a"]["content"] == "full"
    assert values["server"]["http"] == "127.0.0.1:8080"
    assert values["server"]["state"] == str(tmp_path / ".penstock")
    assert values["limits"]["body_bytes"] == 4 << 20
    assert values["endpoints"]["a"]["split"] == {"v1": 1.0}
    version = values["endpoints"]["a"]["versions"]["v1"]
    assert version["model"] == "assistant"
    assert "add_generation_prompt" in version["chat_template"]
    assert version["template_vars"] == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert version["defaults"] == {
        "max_tokens": 256,
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "repetition_penalty": None,
        "stop": [],
    }
    assert version["price"] == {"name": "p", "input": 1, "output": 2}
    assert version["fingerprint"].startswith("a@v1:")
