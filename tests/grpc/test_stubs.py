"""The committed stubs are what `make proto` makes of the .proto files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_stubs_are_current(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON_BIN": str(Path(sys.executable).parent)}
    subprocess.run([ROOT / "scripts" / "protos", tmp_path], check=True, capture_output=True, env=environment)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.py*") if path.is_file()}
    held = {
        path.relative_to(ROOT / "proto"): path.read_bytes()
        for path in (ROOT / "proto").rglob("*_pb2*.py*")
        if "__pycache__" not in path.parts
    }
    assert sorted(made) == sorted(held)
    assert len(made) == 4
    assert made == held, "run: make proto"
