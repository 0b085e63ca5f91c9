"""docs/configuration.md cannot fall behind the schema, nor the schema behind the structs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.config import Config
from gateway.config.kinds import UnfitError
from gateway.config.reference import put_into, reference
from gateway.config.schema import ROOT
from gateway.config.shape import REQUIRED, Key, Listed, Named, Table

ROOT_FOLDER = Path(__file__).parents[2]
DOCUMENT = (ROOT_FOLDER / "docs" / "configuration.md").read_text(encoding="utf-8")
COMPUTED = {"Version": {"endpoint", "name", "template_vars"}, "Endpoint": {"name", "disabled"}}


def tables(table: Table = ROOT) -> Iterator[Table]:
    yield table
    for key in table.keys:
        inner = key.kind.kind if isinstance(key.kind, Named) else key.kind
        if isinstance(inner, Listed):
            yield from tables(inner.table)
        elif isinstance(inner, Table):
            yield from tables(inner)


KEYS = [(table, key) for table in tables() for key in table.keys]


def test_the_document_holds_the_reference() -> None:
    assert put_into(DOCUMENT) == DOCUMENT, "run: python -m gateway.config.reference docs/configuration.md"


def test_a_key_or_default_that_changes_is_noticed() -> None:
    for old, new in (("`body_bytes`", "`body_size`"), ("`4096`", "`4097`"), ("| `salt` |", "| `pepper` |")):
        assert old in DOCUMENT
        changed = DOCUMENT.replace(old, new)
        assert put_into(changed) != changed
    with pytest.raises(ValueError, match="lacks the mark"):
        put_into("# no marks")


def test_the_command_prints_the_reference() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.config.reference"], cwd=ROOT_FOLDER, capture_output=True, check=True, text=True
    )
    assert done.stdout == reference()


def test_every_field_has_a_key_and_every_key_a_field() -> None:
    for table in tables():
        fields = {field.name for field in msgspec.structs.fields(table.struct)}
        assert set(table.by_name) == fields - COMPUTED.get(table.struct.__name__, set())


@pytest.mark.parametrize(("table", "key"), KEYS, ids=[f"{t.struct.__name__}.{k.name}" for t, k in KEYS])
def test_every_key_is_told_and_takes_its_own_default(table: Table, key: Key) -> None:
    assert len(key.meaning) > 10
    assert key.kind.wanted
    default = table.defaults[key.name]
    if isinstance(key.kind, Table | Named | Listed) or default is REQUIRED or default is None:
        return
    shown = list(default) if isinstance(default, tuple) else default
    plain = shown if isinstance(shown, int | float | list) else str(shown)
    if not (plain == "" and key.default):
        assert key.kind.read(plain) == (default if not isinstance(default, Path) else str(default))
    with pytest.raises(UnfitError):
        key.kind.read({})


def test_every_example_is_a_sound_config(
    load_text: Callable[..., Config], tmp_path: Path, make_gguf: Callable[..., bytes]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "my-llama-q8_0.gguf").write_bytes(make_gguf({"tokenizer.chat_template": "{{ x }}"}))
    (tmp_path / "llama-3").mkdir()
    (tmp_path / "llama-3" / "tokenizer_config.json").write_text('{"chat_template": "{{ x }}"}')
    (tmp_path / "llama-3" / "tokenizer.json").write_text("{}")
    examples = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert len(examples) == 7
    for example in examples:
        config = load_text(example)
        assert all(v.chat_template for e in config.endpoints.values() for v in e.versions.values())


def test_the_refusal_that_is_shown_is_what_is_said(load_text: Callable[..., Config]) -> None:
    shown = re.search(r"^```\nThe config was refused.*?^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert shown is not None
    text = '[endpoints.assistant.versions]\nv1 = { model = "assistant" }\nv2 = { model = "assistant" }\n'
    text += "[endpoints.assistant.split]\nv3 = 1\nv1 = 1\n[limits]\nbody_byte = 1\n"
    with pytest.raises(Exception, match="refused") as caught:
        load_text(text)
    told = [re.sub(r"^.*?penstock\.toml:\d+: ", "", line) for line in str(caught.value).splitlines()]
    assert [re.sub(r"^.*?penstock\.toml:\d+: ", "", line) for line in shown[0].splitlines()[1:-1]] == told


def test_every_key_that_the_prose_names_exists() -> None:
    prose = DOCUMENT.partition("## Every key")[0]
    named = re.findall(r"`((?:server|engine|limits|journal|traces|keys|endpoints)(?:\.[\w-]+)*)`", prose)
    assert len(named) >= 3
    for dotted in named:
        table: Table | None = ROOT
        for part in dotted.split("."):
            assert table is not None, dotted
            assert part in table.by_name, dotted
            kind = table.by_name[part].kind
            table = kind if isinstance(kind, Table) else None
