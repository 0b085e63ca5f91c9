"""What a schema is made of: keys, and the tables that hold them."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

from gateway.config.kinds import Kind

REQUIRED: Any = msgspec.NODEFAULT


class Key(Struct, frozen=True):
    """One key. `default` in words replaces the struct's where it is not a plain value.

    `stand_in` takes the place of an unsound value, which has been reported, so that later rules do not
    report its consequences; None leaves the key out.
    """

    name: str
    kind: Kind | Table | Named | Listed
    meaning: str
    unit: str = ""
    default: str = ""
    stand_in: Any = None


class Table(Struct, frozen=True, dict=True):
    """A table with known keys. `struct` gives the defaults; one without a default is required.

    In a `secret` one no problem shows what was found: a secret may stand at the wrong key.
    """

    struct: type[Struct]
    keys: tuple[Key, ...]
    wanted: str = "a table"
    secret: bool = False

    @cached_property
    def by_name(self) -> dict[str, Key]:
        return {key.name: key for key in self.keys}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Field → default, or REQUIRED."""
        return {
            field.name: field.default if field.default_factory is REQUIRED else field.default_factory()
            for field in msgspec.structs.fields(self.struct)
        }


class Named(Struct, frozen=True):
    """A table whose keys are names that the user chooses. `rule` says in words what a name may be.

    `needed` is set where there must be at least one: what is missing from the header of one that would do.
    `stand_in` is as in Key, for one entry.
    """

    placeholder: str
    pattern: re.Pattern[str]
    rule: str
    kind: Kind | Table
    needed: str = ""
    stand_in: Any = None
    wanted: str = "a table"


class Listed(Struct, frozen=True):
    """An array of at most `most` tables, each written as [[NAME]]."""

    table: Table
    most: int
    wanted: str = "an array of tables"
