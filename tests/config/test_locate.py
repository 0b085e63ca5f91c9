"""The key locator: tables of small texts, and every key of any document that tomllib accepts."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.locate import locate

CASES = [
    ("", {}),
    ("# only a comment\n\n", {}),
    ("a = 1", {("a",): 1}),
    ("\n\n  a=1 # [b]\nc = 2", {("a",): 3, ("c",): 4}),
    ("[t]\na = 1\n[u.v]\nb = 2", {("t",): 1, ("t", "a"): 2, ("u",): 3, ("u", "v"): 3, ("u", "v", "b"): 4}),
    ("[a.b]\nx = 1\n[a]\ny = 2", {("a",): 3, ("a", "b"): 1, ("a", "b", "x"): 2, ("a", "y"): 4}),
    ("a.b.c = 1\na.d = 2", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "d"): 2}),
    ("a . b = 1", {("a",): 1, ("a", "b"): 1}),
    ('"a.b" = 1\n\'c d\' = 2\n"\\u0041\\t" = 3', {("a.b",): 1, ("c d",): 2, ("A\t",): 3}),
    ('["x.y".z]\nk = 1', {("x.y",): 1, ("x.y", "z"): 1, ("x.y", "z", "k"): 2}),
    ("[ a . b ] # c\nk = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "k"): 2}),
    (
        "a = { b = 1, c = { d = 2 } }\ne = 3",
        {("a",): 1, ("a", "b"): 1, ("a", "c"): 1, ("a", "c", "d"): 1, ("e",): 2},
    ),
    ("a = { 'b.c' = 1, d.e = 2 }", {("a",): 1, ("a", "b.c"): 1, ("a", "d"): 1, ("a", "d", "e"): 1}),
    ("a = {}\nb = []\nc = 1", {("a",): 1, ("b",): 2, ("c",): 3}),
    ("a = [\n 1, # one ] \n 2,\n]\nb = 3", {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("b",): 5}),
    (
        "a = [ [1], [\n2] ]\nb = 3",
        {("a",): 1, ("a", 0): 1, ("a", 0, 0): 1, ("a", 1): 1, ("a", 1, 0): 2, ("b",): 3},
    ),
    ("a = [{x = 1},\n{x = 2}]", {("a",): 1, ("a", 0): 1, ("a", 0, "x"): 1, ("a", 1): 2, ("a", 1, "x"): 2}),
    ('a = """\nb = 1\n[c]\n"""\nd = 2', {("a",): 1, ("d",): 5}),
    ("a = '''\nb = 1\n'''\nd = 2", {("a",): 1, ("d",): 4}),
    ('a = """x""""\nd = 2', {("a",): 1, ("d",): 2}),
    ('a = """x"""""\nd = 2', {("a",): 1, ("d",): 2}),
    ("a = '''x'''''\nd = 2", {("a",): 1, ("d",): 2}),
    ('a = """one \\""" still\n"""\nd = 2', {("a",): 1, ("d",): 3}),
    ('a = """"quoted" ""\n"""\nd = 2', {("a",): 1, ("d",): 3}),
    ('a = ""\nb = \'\'\nc = """"""\nd = 1', {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}),
    ('a = "x # y ] } \\" z"\nd = 2', {("a",): 1, ("d",): 2}),
    ("a = 'c:\\'\nd = 2", {("a",): 1, ("d",): 2}),
    ("a = 1979-05-27T07:32:00Z\nb = -inf\nc = 1_000.5e-3", {("a",): 1, ("b",): 2, ("c",): 3}),
    ("[[t]]\na = 1\n[[t]]\na = 2", {("t",): 1, ("t", 0): 1, ("t", 0, "a"): 2, ("t", 1): 3, ("t", 1, "a"): 4}),
    (
        "[[t]]\n[t.u]\na = 1\n[[t]]\n[t.u]\na = 2",
        {
            ("t",): 1,
            ("t", 0): 1,
            ("t", 0, "u"): 2,
            ("t", 0, "u", "a"): 3,
            ("t", 1): 4,
            ("t", 1, "u"): 5,
            ("t", 1, "u", "a"): 6,
        },
    ),
    (
        "[[t]]\n[[t.u]]\n[[t.u]]\na = 1",
        {
            ("t",): 1,
            ("t", 0): 1,
            ("t", 0, "u"): 2,
            ("t", 0, "u", 0): 2,
            ("t", 0, "u", 1): 3,
            ("t", 0, "u", 1, "a"): 4,
        },
    ),
    ("a = 1\r\n\r\nb = 2\r\n", {("a",): 1, ("b",): 3}),
    ("-1_b = 1\n2 = 3", {("-1_b",): 1, ("2",): 2}),
]


@pytest.mark.parametrize(("text", "lines"), CASES)
def test_lines(text: str, lines: dict[tuple[str | int, ...], int]) -> None:
    tomllib.loads(text)  # the table itself is sound
    assert locate(text) == lines


def test_line_breaks_inside_inline_tables_as_toml_1_1_allows() -> None:
    assert locate("a = {\n  b = 1, # one\n  c = 2,\n}\nd = 3") == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("d",): 5,
    }


def test_depth_is_bounded() -> None:
    lines = locate("a" + ".a" * 2000 + " = 1\nb = 2")
    assert len(lines) == 17
    assert lines[("a",) * 16] == 1
    assert lines[("b",)] == 2


@settings(deadline=None)
@given(st.text(alphabet="ab.=[]{}\"'\\#, \n\t1-", max_size=60))
def test_never_raises_and_always_ends(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in locate(text).values())


keys = st.one_of(st.sampled_from(["a", "b", "c-d", "e.f", "g h", ""]), st.text(max_size=4).filter(str.isprintable))
scalars = st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=6).filter(str.isprintable), st.just("a\nb"))
inline = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
documents = st.dictionaries(keys, st.one_of(inline, st.dictionaries(keys, inline, max_size=3)), max_size=4)


@settings(deadline=None)
@given(documents, st.booleans())
def test_every_key_stands_on_the_line_that_is_told(document: dict[str, Any], headers: bool) -> None:
    text = _write(document, headers)
    assert tomllib.loads(text) == document
    rows = text.split("\n")
    lines = locate(text)
    paths = list(_paths(document, ()))
    assert set(lines) == set(paths)
    for path in paths:
        if isinstance(path[-1], str):
            assert json.dumps(path[-1], ensure_ascii=False) in rows[lines[path] - 1]


def _paths(value: Any, at: tuple[str | int, ...]) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from _paths(item, (*at, key))


def _write(document: dict[str, Any], headers: bool) -> str:
    """TOML of a document: its tables with headers (after the plain keys) or inline."""
    plain, tables = [], []
    for key, value in document.items():
        if headers and isinstance(value, dict):
            tables.append(f"[{json.dumps(key, ensure_ascii=False)}]  # {{ [")
            tables += [f"{json.dumps(inner, ensure_ascii=False)} = {_inline(item)}" for inner, item in value.items()]
        else:
            plain.append(f"{json.dumps(key, ensure_ascii=False)} = {_inline(value)}\n")
    return "\n".join(plain + tables)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_inline(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + "".join(f"\n  {_inline(item)}, # ] }}" for item in value) + "\n]"
    if isinstance(value, str) and "\n" in value:
        return f"'''{value}'''"
    return json.dumps(value, ensure_ascii=False)
