"""Chat templates: where they come from, which tokens come with them, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.config.template import TemplateError, check_template, read_template

JINJA = "{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}"
TOKENS = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False},
    "pad_token": None,
    "add_bos_token": True,
}
PAIRS = (("bos_token", "<s>"), ("eos_token", "</s>"))


@pytest.fixture
def folder(tmp_path: Path, make_gguf: Callable[..., bytes]) -> Path:
    """One of everything, each alone in its folder."""

    def write(name: str, data: str | bytes) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    write("plain/any.jinja", JINJA)
    write("older/tokenizer_config.json", json.dumps({"chat_template": JINJA, **TOKENS}))
    write("newer/tokenizer_config.json", json.dumps({"chat_template": "old", **TOKENS}))
    write("newer/chat_template.jinja", JINJA)
    write(
        "list/tokenizer_config.json",
        json.dumps({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": JINJA}]}),
    )
    write(
        "gguf/model.gguf",
        make_gguf(
            {
                "tokenizer.chat_template": JINJA,
                "tokenizer.ggml.bos_token_id": 1,
                "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
                "tokenizer.ggml.eos_token_id": 2,
            }
        ),
    )
    write("named/tok.json", json.dumps({"chat_template": JINJA}))
    write("two/a.jinja", JINJA)
    write("two/b.jinja", JINJA)
    write("none/readme.txt", "x")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "variables"),
    [
        ("plain", ()),
        ("plain/any.jinja", ()),
        ("older", PAIRS),
        ("older/tokenizer_config.json", PAIRS),
        ("newer", PAIRS),
        ("newer/tokenizer_config.json", PAIRS),
        ("newer/chat_template.jinja", PAIRS),
        ("list", ()),
        ("gguf", PAIRS),
        ("gguf/model.gguf", PAIRS),
        ("named/tok.json", ()),
    ],
)
def test_sources(path: str, variables: tuple[tuple[str, str], ...], folder: Path) -> None:
    template = read_template(folder / path)
    assert template.source == JINJA
    assert template.variables == variables


@pytest.mark.parametrize(
    ("path", "piece"),
    [
        ("two", "has 2 .jinja files"),
        ("none", "has no tokenizer_config.json, no chat_template.jinja and no .gguf"),
        ("none/readme.txt", "is no kind of file that holds a chat template"),
        ("gone", "there is no "),
    ],
)
def test_sources_that_are_refused(path: str, piece: str, folder: Path) -> None:
    with pytest.raises(TemplateError, match=piece):
        read_template(folder / path)


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (b"[]", "is not a JSON object"),
        (b"[" * 200_000, "is not a JSON object"),
        (b'{"chat_template": 3}', "is no string"),
        (b'{"chat_template": {"a": 1}}', "is no string"),
        (b'{"chat_template": []}', None),
        (b'{"chat_template": [1, null]}', 'none is named "default"'),
        (b'{"chat_template": [{"name": ["a"], "template": 1}]}', 'none is named "default"'),
        (b"\xff\xfe", "is not UTF-8"),
        (b" " * ((1 << 25) + 1), "is larger than"),
    ],
    ids=range(9),
)
def test_hostile_json(content: bytes, piece: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_bytes(content)
    if piece is None:
        assert read_template(path).source == ""
    else:
        with pytest.raises(TemplateError, match=piece):
            read_template(path)


@pytest.mark.parametrize(
    "source",
    [
        JINJA,
        "",
        "no Jinja at all",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}",
        "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1) }}",
        "{{ raise_exception('x') }}{{ strftime_now('%d') }}",
        "{{ 9 ** 9 ** 9 ** 9 }}{{ 'x' * 10 ** 12 }}{{ 'x' | center(10 ** 12) }}",  # folded, this would never end
    ],
)
def test_sound_templates(source: str) -> None:
    check_template(source)


@pytest.mark.parametrize(
    ("source", "piece"),
    [
        ("\n\n{{ x", "in its line 3: unexpected end of template"),
        ("{% for %}", "in its line 1"),
        ("a\n{% endif %}", "in its line 2: Encountered unknown tag 'endif'"),
        ("{{ x | nope }}", "the unknown filter 'nope', in its line 1"),
        ("\n{% extends 'base' %}", "loads another, in its line 2"),
        ("{% import 'a' as b %}", "loads another"),
        ("{% from 'a' import b %}", "loads another"),
        ("{{ " + "(" * 20_000, "is nested too deeply"),
        ("x" * ((1 << 20) + 1), "more than 1048576 characters"),
    ],
    ids=range(9),
)
def test_templates_that_are_refused(source: str, piece: str) -> None:
    with pytest.raises(TemplateError, match=piece):
        check_template(source)


def test_a_template_of_ones_own_keeps_the_models_special_tokens(load_text: Callable[..., Config], folder: Path) -> None:
    def version(template: str) -> tuple[str, dict[str, str]]:
        text = f'[endpoints.a.versions.v1]\nmodel = "assistant"\nchat_template = "{template}"\n'
        v = load_text(text).endpoints["a"].versions["v1"]
        return v.chat_template, dict(v.template_vars)

    models = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert version("{{ x }}") == ("{{ x }}", models)
    assert version("plain/any.jinja") == (JINJA, models)
    (folder / "older" / "tokenizer_config.json").write_text(json.dumps({"chat_template": JINJA, "bos_token": "<b>"}))
    assert version("older") == (JINJA, {**models, "bos_token": "<b>"})


def test_each_triton_version_has_its_own_template(load_text: Callable[..., Config], repository: Path) -> None:
    text = '[endpoints.a.versions.v1]\nmodel = "assistant"\n'
    sources = [
        load_text(text + line).endpoints["a"].versions["v1"].chat_template
        for line in ('model_version = "1"', 'model_version = "2"', "")
    ]
    told = [
        json.loads((repository / "assistant" / number / "tokenizer_config.json").read_text())["chat_template"]
        for number in ("1", "2")
    ]
    assert told[0] != told[1]
    assert sources == [told[0], told[1], told[1]]  # Triton's choice is the highest
