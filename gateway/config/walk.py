"""Check a parsed TOML document against the schema.

Rules: every key is looked at, so that every problem is found; the result holds only what was given and is
sound, or the stand-in that the schema has for it; the caller fills in the rest. An unknown key is a problem
that names the nearest known one, here or one table further in.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from gateway.config.kinds import Kind, UnfitError
from gateway.config.problem import KeyPath, Report, dotted, found_words, kind_words
from gateway.config.shape import REQUIRED, Listed, Named, Table

MISSING: Any = object()


def walk(
    kind: Kind | Table | Named | Listed,
    value: object,
    at: KeyPath,
    report: Report,
    unit: str = "",
    *,
    hide: bool = False,
) -> Any:
    """`value` as `kind` reads it: for tables a dict of the given, sound keys; MISSING for what is unsound.

    With `hide` the value may be a secret: problems do not show it.
    """
    words = kind_words if hide else found_words
    if isinstance(kind, Listed):
        return _listed(kind, value, at, report)
    if isinstance(kind, Table | Named):
        if not isinstance(value, dict):
            found = words(value)
            report.add(at, f"found {found}", f"give {kind.wanted}, as in {_header(at)}", found)
            return MISSING
        return _table(kind, value, at, report) if isinstance(kind, Table) else _named(kind, value, at, report)
    try:
        return kind.read(value)
    except UnfitError as unfit:
        found = kind_words(value) if unfit.hide else words(value)
        remedy = unfit.remedy or f"give {in_words(kind, unit)}"
        report.add(at, unfit.says or f"found {found}", remedy, found)
        return MISSING


def in_words(kind: Kind | Table | Named | Listed, unit: str) -> str:
    """What a key wants: "an integer from 1 to 9, in bytes"."""
    return f"{kind.wanted}, in {unit}" if unit else kind.wanted


def _table(table: Table, value: dict[str, Any], at: KeyPath, report: Report) -> dict[str, Any]:
    result = {}
    for name, item in value.items():
        key = table.by_name.get(name)
        if key is None:
            found = kind_words(item) if table.secret else found_words(item)
            report.add((*at, name), "unknown key", _nearest(table, name), found)
            continue
        read = walk(key.kind, item, (*at, name), report, key.unit, hide=table.secret)
        if read is not MISSING:
            result[name] = read
        elif key.stand_in is not None:
            result[name] = key.stand_in
    for key in table.keys:
        path = (*at, key.name)
        if isinstance(key.kind, Named):
            if key.kind.needed and value.get(key.name, {}) == {}:
                example = f"[{dotted(path)}{key.kind.needed}]"
                report.add(path, "there is none", f'add {example} with the line model = "MODEL"')
        elif (
            not isinstance(key.kind, Table | Listed) and key.name not in value and table.defaults[key.name] is REQUIRED
        ):
            report.add(path, "missing", f"give {in_words(key.kind, key.unit)}: {key.meaning}")
    return result


def _named(named: Named, value: dict[str, Any], at: KeyPath, report: Report) -> dict[str, Any]:
    result = {}
    for name, item in value.items():
        if not named.pattern.fullmatch(name):
            report.add((*at, name), "this name will not do", named.rule, name)
        read = walk(named.kind, item, (*at, name), report)
        result[name] = named.stand_in if read is MISSING else read
    return result


def _listed(listed: Listed, value: object, at: KeyPath, report: Report) -> Any:
    if not isinstance(value, list) or len(value) > listed.most:
        hide = listed.table.secret
        found = kind_words(value) if hide else found_words(value)
        remedy = f"give {listed.wanted}, {listed.most} at most, each under {_header((*at, 0))}"
        report.add(at, f"found {found}", remedy, found)
        return MISSING
    read = [
        walk(listed.table, item, (*at, index), report, hide=listed.table.secret) for index, item in enumerate(value)
    ]
    return [{} if item is MISSING else item for item in read]


def _header(at: KeyPath) -> str:
    return f"[[{dotted(at[:-1])}]]" if isinstance(at[-1], int) else f"[{dotted(at)}]"


def _nearest(table: Table, name: str) -> str:
    """The remedy for an unknown key: the nearest known one, here or in a table of this one."""
    inner: dict[str, list[str]] = {}
    for key in table.keys:
        if isinstance(key.kind, Table):
            for child in key.kind.by_name:
                inner.setdefault(child, []).append(f"'{key.name}'")
    near = get_close_matches(name, [*table.by_name, *inner], 1)
    if not near:
        return f"the keys here are {', '.join(sorted(table.by_name))}"
    place = "" if near[0] in table.by_name else f"it belongs in {' or '.join(inner[near[0]])}"
    if near[0] == name:
        return place
    return f"did you mean '{near[0]}'?" + f" ({place})" * bool(place)
