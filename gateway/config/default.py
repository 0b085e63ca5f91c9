"""The built-in default config, which is also the shipped penstock.toml.

`python -m gateway.config.default > penstock.toml` writes it out to start from.
"""

from __future__ import annotations

import sys
from importlib.resources import files


def default_text() -> str:
    """The TOML of the built-in default, comments included."""
    return files("gateway.config").joinpath("default.toml").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(default_text())
