"""Whatever a file holds, the answer is a Config or a ConfigError."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, describe, load, to_json
from gateway.config.default import default_text

DEFAULT = default_text()
WORDS = sorted(set(DEFAULT.replace("\n", " \n ").split(" ")))
TOKENS = [*WORDS, "[", "]", "{", "}", '"', "'''", "nan", "1e999", "\\"]
RELAXED = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(data: bytes, folder: Path, repository: Path) -> bool:
    """Whether the config was taken; then it can be shown as well."""
    path = folder / "penstock.toml"
    path.write_bytes(data)
    try:
        config = load(path, repository=repository)
    except ConfigError as error:
        refused = error
    else:
        assert isinstance(config, Config)
        assert describe(config)
        assert to_json(config)
        return True
    lines = data.count(b"\n") + 1
    assert refused.problems
    for problem in refused.problems:
        assert 0 <= problem.line <= lines
        assert problem.message
        assert problem.remedy
        assert "\n" not in str(problem)
    return False


@RELAXED
@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes, tmp_path: Path, repository: Path) -> None:
    assert not check(data, tmp_path, repository)


@RELAXED
@given(tokens=st.lists(st.sampled_from(TOKENS), max_size=60))
def test_pieces_of_toml(tokens: list[str], tmp_path: Path, repository: Path) -> None:
    check(" ".join(tokens).encode(), tmp_path, repository)


@RELAXED
@given(
    at=st.integers(0, len(DEFAULT)),
    size=st.integers(0, 30),
    new=st.one_of(st.sampled_from(TOKENS), st.text(max_size=5)),
)
def test_the_default_with_a_piece_replaced(at: int, size: int, new: str, tmp_path: Path, repository: Path) -> None:
    check((DEFAULT[:at] + new + DEFAULT[at + size :]).encode("utf-8", "replace"), tmp_path, repository)


values = st.recursive(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.sampled_from(
            [
                "",
                "user",
                "v1",
                "127.0.0.1:1",
                "0.0.0.0:1",
                "http://x:1",
                "full",
                "a" * 64,
                "*",
                "(",
                "\\b",
                "http://[",
                "{{ x",
                "{% if %}",
                "a\tb",
                "é" * 3000,
                "penstock.toml",
                "/",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["v1", "max_tokens", "name", "sha256", "endpoints", "x"]), inner, max_size=3),
    ),
    max_leaves=5,
)
KEYS = [
    *(f"server.{key}" for key in ("http", "grpc", "metrics", "workers", "state")),
    *(f"engine.{key}" for key in ("url", "connections", "environment", "start_timeout_s", "models", "models.m")),
    *(f"limits.{key}" for key in ("body_bytes", "request_timeout_s")),
    *(f"journal.{key}" for key in ("segment_bytes", "segment_age_s", "keep_days", "keep_bytes", "redact")),
    *(f"traces.{key}" for key in ("otlp", "share", "slow_s", "engine")),
    *("journal", "traces", "keys"),
    *(
        f"endpoints.a.{key}"
        for key in ("content", "content_in_traces", "sticky", "salt", "split", "versions", "split.v1")
    ),
    *(
        f"endpoints.a.versions.v1.{key}"
        for key in ("model", "model_version", "chat_template", "tokenizer", "determinism", "text_mode", "defaults")
    ),
    *(f"endpoints.a.versions.v1.{key}" for key in ("limits", "price", "defaults.stop", "price.name")),
]


@RELAXED
@given(pairs=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=6))
def test_known_keys_with_any_values(pairs: dict[str, object], tmp_path: Path, repository: Path) -> None:
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in pairs.items())
    check(text.encode(), tmp_path, repository)


@pytest.mark.parametrize("text", [DEFAULT, DEFAULT.replace("\n", "\r\n")])
def test_the_check_itself_tells_good_from_bad(text: str, tmp_path: Path, repository: Path) -> None:
    assert check(text.encode(), tmp_path, repository)
    assert not check(text.replace("workers", "wrokers").encode(), tmp_path, repository)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace("\t", "\\t") + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value)
