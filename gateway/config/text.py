"""From a file to TOML values: everything that can be wrong before the first key is looked at.

Rules: a file is read once and never more than MAX_BYTES of it; whatever the bytes are, the caller gets
values with their lines or a ConfigError with a place. A byte order mark is dropped.
"""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from gateway.config.locate import locate
from gateway.config.problem import ConfigError, KeyPath, Problem

MAX_BYTES = 1 << 18
MAKE_ONE = (
    "write one with `python -m gateway.config.default > penstock.toml`, "
    "or leave --config out to serve the built-in default"
)
_PLACE = re.compile(r" \((?:at line (\d+), column (\d+)|at end of document)\)$")
_TUPLE = re.compile(r"\(('[^']*',? ?)+\)")  # how tomllib shows the key of a table


def read_config(path: Path) -> bytes:
    """The bytes of a config file. Errors: ConfigError when it is missing, no file, large or unreadable."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _refused(path, "a folder", "is a folder", f"name the file in it, such as {path / 'penstock.toml'}")
        if not stat.S_ISREG(mode):
            raise _refused(path, "no regular file", "is not a regular file", "name a TOML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refused(path, "nothing", "there is no such file", MAKE_ONE) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(path, reason, f"cannot be read ({reason})", "check the path and its permissions") from None
    if len(data) > MAX_BYTES:
        raise _refused(path, "a larger file", f"is larger than {MAX_BYTES} bytes", "is this the right file?")
    return data


def parse(data: bytes, name: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """The values of a TOML text and the line of each key. `name` is what errors call the file.

    Errors: ConfigError with line and column where the text is not UTF-8 or not TOML.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        found = f"the byte 0x{data[error.start]:02x}"
        raise _syntax(name, line, column, f"is not UTF-8: found {found}", "save the file as UTF-8") from None
    text = text.removeprefix("\ufeff")
    try:
        return tomllib.loads(text), locate(text)
    except RecursionError:
        raise _syntax(name, 0, 0, "is nested too deeply", "a config needs seven levels") from None
    except ValueError as error:  # TOMLDecodeError, or Python's own for an integer of thousands of digits
        message = str(error)
        place = _PLACE.search(message)
        if place is None:
            line = column = 0
            message = "a number with thousands of digits" if "digits" in message else message
        elif place[1]:
            line, column = int(place[1]), int(place[2])
        else:
            line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
        says = _TUPLE.sub(lambda keys: keys[0].replace("', '", ".").strip("(),"), _PLACE.sub("", message))
        says = f"is not TOML: {says[:1].lower()}{says[1:]}"
        raise _syntax(name, line, column, says, _remedy(says)) from None


def _remedy(says: str) -> str:
    if "overwrite" in says or "twice" in says or "mutate" in says:
        return "give each key and each table once"
    if says.endswith("invalid value"):
        return 'strings need quotes: key = "value"'
    return "see toml.io for the syntax"


def _refused(path: Path, found: str, says: str, remedy: str) -> ConfigError:
    return ConfigError((Problem(str(path), 0, "", found, remedy, f"{says}; {remedy}"),))


def _syntax(name: str, line: int, column: int, says: str, remedy: str) -> ConfigError:
    return ConfigError((Problem(name, line, "", says, remedy, f"{says}; {remedy}", column),))
