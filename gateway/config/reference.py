"""The tables of docs/configuration.md, made from the schema so that they cannot fall behind it.

`python -m gateway.config.reference` prints them; with the path of a Markdown file it puts them between the
two marks there, and leaves the rest of the file alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.problem import dotted
from gateway.config.schema import ROOT
from gateway.config.shape import REQUIRED, Key, Listed, Named, Table
from gateway.config.summary import in_unit
from gateway.config.walk import in_words

BEGIN = "<!-- begin: python -m gateway.config.reference docs/configuration.md -->"
END = "<!-- end -->"


def reference() -> str:
    """Markdown: a heading and a table of keys for each table of the schema, parents before children.

    An array of tables holds no tables of its own.
    """
    parts = []
    for title, table in _tables(ROOT, ()):
        rows = [_row(table, key) for key in table.keys]
        head = f"### {title}\n\n" if title else ""
        parts.append("\n".join([f"{head}| key | value | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def put_into(document: str) -> str:
    """`document` with what stands between the marks replaced. Errors: ValueError when a mark is missing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document lacks the mark {END if begin else BEGIN}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def _tables(table: Table, at: tuple[str, ...]) -> Iterator[tuple[str, Table]]:
    yield f"[{dotted(at)}]" if at else "", table
    for key in table.keys:
        if isinstance(key.kind, Table):
            yield from _tables(key.kind, (*at, key.name))
        elif isinstance(key.kind, Named) and isinstance(key.kind.kind, Table):
            yield from _tables(key.kind.kind, (*at, key.name, key.kind.placeholder))
        elif isinstance(key.kind, Listed):
            yield f"[[{dotted((*at, key.name))}]]", key.kind.table


def _row(table: Table, key: Key) -> str:
    return f"| `{_name(key)}` | {_type(key)} | {_default(table, key)} | {key.meaning} |"


def _name(key: Key) -> str:
    return f"{key.name}.{key.kind.placeholder}" if isinstance(key.kind, Named) else key.name


def _type(key: Key) -> str:
    kind = key.kind.kind if isinstance(key.kind, Named) else key.kind
    return in_words(kind, key.unit)


def _default(table: Table, key: Key) -> str:
    if key.default:
        return key.default
    value: Any = table.defaults[key.name]
    if value is REQUIRED:
        return "required"
    if value is None:
        return "the engine's own"
    if isinstance(value, bool):
        return f"`{in_unit(value, '')}`"
    if isinstance(value, int | float):
        words = f" ({in_unit(value, key.unit)})" if key.unit == "bytes" else ""
        return f"`{value:g}`{words}" if isinstance(value, float) else f"`{value}`{words}"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else str(value))}`"


def main() -> None:
    """Print the reference, or put it into the files that are named."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")
    if not sys.argv[1:]:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main()
