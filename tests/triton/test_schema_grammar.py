"""JSON schemas as grammars: which, and what they say. The engine's obedience is tested in tests/e2e/test_guides.py."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from penstock_engine.schema_grammar import integers, schema_grammar


def rules(schema: Any) -> str:
    grammar = schema_grammar(json.dumps(schema))
    assert grammar is not None
    return grammar.partition("string ::=")[0]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 0), (0, 9), (0, 150), (7, 7), (8, 12), (99, 101), (13, 2045), (-3, 5), (-120, -7), (-1, 0), (-10, 100)],
)  # fmt: skip
def test_integers_of_a_range_and_no_others(low: int, high: int) -> None:
    pattern = re.compile("(?:" + integers(low, high).replace('"', "").replace(" ", "") + ")")
    around = range(low - 250, high + 251)
    assert [n for n in around if pattern.fullmatch(str(n))] == list(range(low, high + 1))
    assert not any(pattern.fullmatch(text) for text in ("-0", "00", "01", "", "-", "1e1", "007"))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "title": "A name"}, "string"),
        ({"type": "string", "minLength": 1}, r'"\"" char{1,} "\""'),
        ({"type": "string", "maxLength": 3}, r'"\"" char{0,3} "\""'),
        ({"const": 'a"b'}, r'"\"a\\\"b\""'),
        ({"enum": ["é", 1, None]}, r'"\"é\"" | "1" | "null"'),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "integer", "exclusiveMinimum": -1, "maximum": 0.5}, '("0")'),
        ({"type": "array", "maxItems": 0}, '"[]"'),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2}, '"[" null (", " null){1,1} "]"'),
        ({"type": "array", "items": {"type": "null"}}, '"[]" | "[" null (", " null){0,} "]"'),
        ({"type": "object", "additionalProperties": False}, '"{}"'),
        ({"type": "object", "additionalProperties": {"type": "null"}},
         '"{" (string ": " null (", " string ": " null)*)? "}"'),
        ({"type": "object", "properties": {"a": {"type": "null"}, "b": True}, "required": ["a", "b"]},
         r'"{" "\"a\": " null ", " "\"b\": " value "" "}"'),
        ({}, "value"),
        (True, "value"),
    ],
)  # fmt: skip
def test_a_schema_says(schema: Any, expected: str) -> None:
    assert f"::= {expected}\n" in rules(schema)


def test_what_is_optional_may_be_left_out_in_any_combination() -> None:
    null = {"type": "null"}
    text = rules({"type": "object", "properties": {"a": null, "b": null, "c": null}, "required": ["b"]})
    found = dict(line.split(" ::= ") for line in text.splitlines())
    words = {"root"}
    while any(word in found for line in words for word in line.split()):
        words = {
            line.replace(name, f" {choice} ", 1)
            for line in words
            for name in [next((word for word in line.split() if word in found), "")]
            for choice in (found[name].split(" | ") if name else [""])
        }
    texts = {"".join(json.loads(part) if part[0] == '"' else part for part in re.findall(r'"(?:\\.|[^"\\])*"|\S+', w))
             for w in words}  # fmt: skip
    assert sorted(sorted(json.loads(text)) for text in texts) == [["a", "b"], ["a", "b", "c"], ["b"], ["b", "c"]]


def test_a_definition_may_hold_itself() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["next"],
    }
    found = dict(line.split(" ::= ") for line in rules({"$ref": "#/$defs/node", "$defs": {"node": node}}).splitlines())
    reached, ahead = set[str](), {found["root"]}
    while ahead - reached:
        reached |= ahead
        ahead = {word for name in reached for word in found[name].split() if word in found}
    assert found[found["root"]] in ahead


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no-such-type"},
        {"type": "string", "pattern": "a+"},
        {"type": "string", "format": "date"},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "minLength": True},
        {"type": "number", "minimum": 1},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "integer", "multipleOf": 3},
        {"type": "array", "prefixItems": [True]},
        {"type": "array", "uniqueItems": True},
        {"type": "object", "properties": {"a": True}, "required": ["b"]},
        {"type": "object", "properties": {"a": True}, "additionalProperties": True},
        {"type": "object", "properties": []},
        {"type": "integer", "enum": ["a"]},
        {"enum": []},
        {"enum": "ab"},
        {"const": "\ud800"},
        {"$ref": "other.json"},
        {"$ref": "#/$defs/none"},
        {"oneOf": [True]},
        {"not": True},
        False,
        [],
        "x",
    ],
)
def test_beyond_it_the_compiler_gets_the_schema_itself(schema: Any) -> None:
    assert schema_grammar(json.dumps(schema)) is None


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"a":' * 100_000])
def test_what_is_no_json_has_no_grammar(text: str) -> None:
    assert schema_grammar(text) is None


def test_a_huge_schema_is_left_to_the_compiler() -> None:
    properties = {f"key{i}": {"type": "string"} for i in range(1000)}
    assert schema_grammar(json.dumps({"type": "object", "properties": properties})) is None
