"""A JSON schema as a grammar with one way to write each value.

The guide compiler allows any white space between the parts of a JSON text and any number of digits, and
GenAI has no option against it; a small model that is unsure loops there until its tokens are spent. This
grammar writes JSON as ``json.dumps`` does, and numbers of bounded length. It knows the keywords that
structured output is usually asked with; for a schema with any other there is no grammar, and the guide
compiler gets the schema itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

_SAYS_NOTHING = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions",
                 "deprecated", "readOnly", "writeOnly"}  # fmt: skip
_KNOWN = {"type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minLength",
          "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}  # fmt: skip
_MOST_DIGITS = 18
_MOST_CHARACTERS = 12_000
"""Compiling a grammar takes longer than compiling its schema; from here on it may be refused for that."""
_LEXEMES = f"""\
string ::= "\\"" char* "\\""
char ::= [^"\\\\\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9A-Fa-f]{{4}})
integer ::= "0" | "-"? [1-9] [0-9]{{0,{_MOST_DIGITS - 1}}}
number ::= "-"? ("0" | [1-9] [0-9]{{0,{_MOST_DIGITS - 1}}}) ("." [0-9]{{1,{_MOST_DIGITS}}})? ([eE] [+-]? [0-9]{{1,2}})?
boolean ::= "true" | "false"
null ::= "null"
value ::= string | number | boolean | null | any_array | any_object
any_array ::= "[" (value (", " value)*)? "]"
any_object ::= "{{" (string ": " value (", " string ": " value)*)? "}}"
"""
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class _Beyond(Exception):
    """The schema uses what this module doesn't know."""


def schema_grammar(text: str) -> str | None:
    """The EBNF of a JSON schema given as text; None when it is beyond this module, or no schema at all."""
    try:
        grammar = _Grammar(json.loads(text)).text()
        grammar.encode()  # a lone surrogate has no form that the compiler could read
    except (_Beyond, ValueError, RecursionError):
        return None
    return grammar if len(grammar) <= _MOST_CHARACTERS else None


class _Grammar:
    """Collects rules; an expression refers to them by name."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rules: list[str] = []
        self._named: dict[str, str] = {}
        self._references: dict[str, str] = {}

    def text(self) -> str:
        root = self._reference("#")
        return f"root ::= {root}\n" + "".join(self._rules) + _LEXEMES

    def _rule(self, expression: str) -> str:
        if expression not in self._named:
            self._named[expression] = f"r{len(self._rules)}"
            self._rules.append(f"{self._named[expression]} ::= {expression}\n")
        return self._named[expression]

    def _reference(self, pointer: str) -> str:
        """The rule of a definition, which may refer to itself."""
        if pointer not in self._references:
            place = len(self._rules)
            self._rules.append("")
            self._references[pointer] = f"r{place}"
            self._rules[place] = f"r{place} ::= {self._expression(self._find(pointer))}\n"
        return self._references[pointer]

    def _find(self, pointer: str) -> Any:
        steps = pointer.split("/")
        if steps == ["#"]:
            return self._schema
        if len(steps) != 3 or steps[0] != "#" or steps[1] not in ("$defs", "definitions"):
            raise _Beyond
        try:
            return self._schema[steps[1]][steps[2]]
        except (KeyError, TypeError):
            raise _Beyond from None

    def _expression(self, schema: Any) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise _Beyond
        telling = schema.keys() - _SAYS_NOTHING
        if not telling:
            return "value"
        if telling == {"$ref"} and isinstance(schema["$ref"], str):
            return self._reference(schema["$ref"])
        if telling == {"anyOf"}:
            return self._either([self._expression(one) for one in _listed(schema, "anyOf")])
        if "const" in telling:
            return self._enumerated(schema, [schema["const"]], telling - {"const", "type"})
        if "enum" in telling:
            return self._enumerated(schema, _listed(schema, "enum"), telling - {"enum", "type"})
        if "type" not in telling or not telling <= _KNOWN:
            raise _Beyond
        return self._either([self._of_type(kind, schema) for kind in _kinds(schema)])

    def _either(self, expressions: list[str]) -> str:
        if not expressions:
            raise _Beyond
        return expressions[0] if len(expressions) == 1 else self._rule(" | ".join(expressions))

    def _enumerated(self, schema: Mapping[str, Any], values: list[Any], others: set[str]) -> str:
        kinds = [_KINDS[kind] for kind in _kinds(schema)] if "type" in schema else [lambda value: True]
        if others or not all(any(fits(value) for fits in kinds) for value in values):
            raise _Beyond
        return self._either([_literal(json.dumps(value, ensure_ascii=False)) for value in values])

    def _of_type(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return self._string(schema)
        if kind == "integer":
            return _integer(schema)
        if kind == "number" and schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}:
            raise _Beyond
        return kind

    def _string(self, schema: Mapping[str, Any]) -> str:
        least, most = _bounds(schema, "minLength", "maxLength")
        if (least, most) == (0, None):
            return "string"
        return self._rule(f'"\\"" char{{{least},{"" if most is None else most}}} "\\""')

    def _array(self, schema: Mapping[str, Any]) -> str:
        least, most = _bounds(schema, "minItems", "maxItems")
        if most == 0:
            return '"[]"'
        item = self._expression(schema.get("items", True))
        more = f'(", " {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        filled = f'"[" {item} {more} "]"'
        return self._rule(filled if least else f'"[]" | {filled}')

    def _object(self, schema: Mapping[str, Any]) -> str:
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise _Beyond
        if any(name not in properties for name in required):
            raise _Beyond
        if properties:
            if extra not in (None, False):
                raise _Beyond
            return self._rule(f'"{{" {self._members(properties, set(required))} "}}"')
        if extra is False:
            return '"{}"'
        pair = f'string ": " {self._expression(True if extra is None else extra)}'
        return self._rule(f'"{{" ({pair} (", " {pair})*)? "}}"')

    def _members(self, properties: Mapping[str, Any], required: set[str]) -> str:
        """Members in the order of the schema; the rest of them is written in two ways, after a member and first."""
        after = first = '""'
        names = list(properties)
        for place in reversed(range(len(names))):
            name = names[place]
            pair = f"{_literal(json.dumps(name, ensure_ascii=False) + ': ')} {self._expression(properties[name])}"
            never_first = not required.isdisjoint(names[:place])
            if name in required:
                after, first = f'", " {pair} {after}', f"{pair} {after}"
            else:
                first = first if never_first else self._rule(f"{pair} {after} | {first}")
                after = self._rule(f'", " {pair} {after} | {after}')
        return first


def _literal(text: str) -> str:
    """Text as it stands, as a terminal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _listed(schema: Mapping[str, Any], key: str) -> list[Any]:
    value = schema[key]
    if not isinstance(value, list):
        raise _Beyond
    return value


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if any(not isinstance(kind, str) or kind not in _KINDS for kind in named):
        raise _Beyond
    return named


def _whole(value: Any) -> int:
    if not _KINDS["integer"](value):
        raise _Beyond
    number: int = value
    return number


def _bounds(schema: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    low = _whole(schema.get(least, 0))
    high = _whole(schema[most]) if most in schema else None
    if low < 0 or (high is not None and high < low):
        raise _Beyond
    return low, high


def _integer(schema: Mapping[str, Any]) -> str:
    most = 10**_MOST_DIGITS - 1
    low = max(
        -most, math.ceil(_real(schema, "minimum", -most)), math.floor(_real(schema, "exclusiveMinimum", -most - 1)) + 1
    )
    high = min(
        most, math.floor(_real(schema, "maximum", most)), math.ceil(_real(schema, "exclusiveMaximum", most + 1)) - 1
    )
    if low > high:
        raise _Beyond
    return "integer" if (low, high) == (-most, most) else f"({integers(low, high)})"


def _real(schema: Mapping[str, Any], key: str, default: int) -> float:
    value = schema.get(key, default)
    if not _KINDS["number"](value) or not math.isfinite(value):
        raise _Beyond
    number: float = value
    return number


def integers(low: int, high: int) -> str:
    """The decimal forms of the integers from ``low`` to ``high``, both included."""
    parts: list[str] = []
    if low < 0:
        parts += [f'"-" {span}' for span in _by_length(max(-high, 1), -low)]
    if high >= 0:
        parts += _by_length(max(low, 0), high)
    return " | ".join(parts)


def _by_length(low: int, high: int) -> list[str]:
    """The same for integers that aren't negative, an expression for each number of digits."""
    spans = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        spans.append(_span(str(least), str(min(high, 10**digits - 1))))
    return spans


def _span(low: str, high: str) -> str:
    """The digit strings from ``low`` to ``high``, which are equally long."""
    if low == high:
        return f'"{low}"'
    if low[0] == high[0]:
        return f'"{low[0]}" {_span(low[1:], high[1:])}'
    rest = len(low) - 1
    first, last = int(low[0]), int(high[0])
    parts = []
    if low[1:] != "0" * rest:
        parts.append(f'"{first}" {_span(low[1:], "9" * rest)}')
        first += 1
    if high[1:] != "9" * rest:
        parts.append(f'"{last}" {_span("0" * rest, high[1:])}')
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}]" + (f" [0-9]{{{rest}}}" if rest else ""))
    return f"({' | '.join(parts)})"
