"""The assistant's engine: its pure modules are importable as penstock_engine."""

from __future__ import annotations

import sys

from tests.triton_server import EMBEDDED

sys.path.insert(0, str(EMBEDDED / "assistant"))
