"""The built-in default, the shipped penstock.toml, and what `describe` makes of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, Overrides, describe, embedded_repository, load
from gateway.config.default import default_text
from gateway.config.embedded import shipped_models
from gateway.routing.version import Price, SamplingDefaults, SamplingLimits

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "configs" / "default.described.txt"


def test_the_shipped_file_is_the_built_in_default(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / "penstock.toml").read_text(encoding="utf-8") == default_text()
    monkeypatch.chdir(ROOT)
    assert load(None, repository=repository) == load(Path("penstock.toml"), repository=repository)
    assert load(None, repository=repository) == load(ROOT / "penstock.toml", repository=repository)


def test_what_it_says(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, repository=repository)
    assert config.server.state == tmp_path / ".penstock"
    endpoint = config.endpoints["assistant"]
    assert list(config.endpoints) == ["assistant"]
    assert (endpoint.sticky, endpoint.split) == ("user", {"v1": 90.0, "v2": 10.0})
    for name, number in (("v1", "1"), ("v2", "2")):
        version = endpoint.versions[name]
        assert (version.model, version.model_version, version.determinism) == ("assistant", number, "free")
        assert version.defaults == SamplingDefaults(max_tokens=512, temperature=0.0)
        assert version.limits == SamplingLimits(max_tokens=2048)
        assert version.price == Price("2026-11", 150, 600)
        assert dict(version.template_vars)["eos_token"] == "</s>"
        assert "add_generation_prompt" in version.chat_template


def test_every_value_that_it_spells_out_is_the_default(repository: Path, load_text: Callable[..., Config]) -> None:
    bare = load_text('[endpoints.a.versions.v1]\nmodel = "assistant"\n')
    config = load_text(default_text())
    for part in ("server", "engine", "limits", "journal", "traces", "keys"):
        assert getattr(config, part) == getattr(bare, part)


def test_described(repository: Path) -> None:
    told = describe(load(ROOT / "penstock.toml", repository=repository)).replace(str(ROOT), "<here>")
    # The width of a column follows the path of the checkout; runs of spaces are no part of the text.
    assert [line.split() for line in told.splitlines()] == [line.split() for line in GOLDEN.read_text().splitlines()]


ONE = '[endpoints.a.versions.v1]\nmodel = "assistant"\n'
TWO = '[endpoints.a.versions.v2]\nmodel = "assistant"\n'
KEY = f'[[keys]]\nname = "app"\nsha256 = "{"ab" * 32}"\n'
DESCRIBED = [
    ('[engine]\nurl = "t:1"', "engine: the Triton at t:1, which someone else runs"),
    ('[engine]\nurl = "t:1"', "no chat template: completions only"),
    ("[server]\nworkers = 3", "workers 3 gateway processes that share the ports"),
    ("[limits]\nbody_bytes = 5000", "body_bytes 5000 bytes the largest"),
    ("[limits]\nbody_bytes = 1073741824", "body_bytes 1 GiB the largest"),
    (f'{TWO}[endpoints.a]\nsticky = "none"\nsplit = {{ v1 = 1 }}', "a: 2 versions, each request split by itself"),
    (f'{TWO}[endpoints.a]\nsticky = "header:X-Id"\nsplit = {{ v1 = 1 }}', "2 versions, sticky by the header x-id"),
    (f'{TWO}[endpoints.a]\nsalt = "s"\nsplit = {{ v1 = 1 }}', "the request's user field, salted with 's'"),
    (f"{TWO}[endpoints.a]\nsplit = {{ v1 = 1, v2 = 2 }}", "a@v1: 33.3333 % of callers"),
    (f"{TWO}[endpoints.a]\nsplit = {{ v1 = 1 }}", "a@v1: 100 % of callers"),
    (f"{TWO}[endpoints.a]\nsplit = {{ v1 = 1 }}", "a@v2: only for those who pin it"),
    ('defaults.stop = ["x", "\\n"]', 'stop "x", "\\n"'),
    ('determinism = "greedy"', "determinism greedy; text mode auto; price unknown"),
    ("", "none, so whoever reaches the gateway may call; it listens on loopback only endpoint a:"),
    ("", "the journal keeps content in full; spans carry none"),
    ('[endpoints.a]\ncontent = "hashed"', "the journal keeps hashes in place of content; spans carry none"),
    ('[endpoints.a]\ncontent = "none"', "the journal keeps no content; spans carry none"),
    ("[endpoints.a]\ncontent_in_traces = true", "the journal keeps content in full; spans carry it too"),
    (KEY, "keys: one, which each call must carry app every endpoint; sha256 abababab… endpoint a"),
    (f'{KEY}endpoints = ["a"]', "carry app a; sha256"),
    (f'{KEY}[[keys]]\nname = "b"\nsha256 = "{"0" * 64}"', "keys: 2, one of which each call must carry app every"),
    ("[journal]\nredact = ['\\d+', 'x']", '"\\\\d+", "x" what matches is blacked out'),
    ("[traces]\nengine = false", "engine false whether"),
    ("", "endpoint a: one version a@v1: 100 % of callers model assistant, whatever version Triton chooses"),
]


@pytest.mark.parametrize(("text", "piece"), DESCRIBED)
def test_described_in_words(text: str, piece: str, load_text: Callable[..., Config]) -> None:
    told = describe(load_text(f"{ONE}{text}\n"))
    assert piece in " ".join(told.split())


def test_the_shipped_repository_is_found(tmp_path: Path) -> None:
    assert embedded_repository() == ROOT / "model_repo" / "embedded"


def test_it_works_from_an_installed_package(repository: Path, tmp_path: Path) -> None:
    """As a wheel has it: the package elsewhere, the models at gateway/model_repo."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "gateway", site / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(repository, site / "gateway" / "model_repo")
    code = "from gateway.config import *; print(embedded_repository()); print(describe(load(None)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"{site / 'gateway' / 'model_repo'}\nserver\n")
    assert f"{tmp_path / '.penstock'} " in done.stdout


def test_the_built_in_default_is_named_in_errors(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"built-in default:\d+: endpoints\.assistant\.versions\.v1\.model: there are no"
    ):
        load(None, repository=tmp_path / "none")
    with pytest.raises(ConfigError, match=r"command line: --http: found 127\.0\.0\.1:8081"):
        load(None, overrides=Overrides(http="127.0.0.1:8081"))


def test_shipped_models(tmp_path: Path, repository: Path) -> None:
    assert shipped_models(repository) == {"assistant": (1, 2)}
    assert shipped_models(tmp_path / "none") == {}
    for name in ("m/10", "m/9", "m/notes", "m/01", "m/0", "empty", "m/²"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "m" / "11").write_text("a file")
    assert shipped_models(tmp_path) == {"m": (9, 10)}


def test_writing_the_default_out() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.config.default"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert done.stdout == default_text()
