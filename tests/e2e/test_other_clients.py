"""Clients that live in environments of their own: openai-python before 3, and openai for Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import ROOT, Running

CLIENTS = Path(__file__).with_name("clients")
NODE_PACKAGE = "openai@7"


def seen_by(command: list[str | Path], gateway: Running, cwd: Path) -> dict[str, Any]:
    ended = subprocess.run([*command, gateway.url], capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout)
    return seen


def check(seen: dict[str, Any], major: str) -> None:
    assert seen.pop("package").split(".")[0] == major
    text = seen["whole"]
    assert text.startswith("1, 2, 3")
    assert seen == {"whole": text, "streamed": text, "models": ["assistant"], "error": "model_not_found"}


def test_openai_python_2(gateway: Running) -> None:
    check(seen_by([ROOT / ".venv-openai2/bin/python", CLIENTS / "chat.py"], gateway, ROOT), "2")


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node and npm, which make test does not install")
def test_openai_node(gateway: Running, tmp_path: Path) -> None:
    install = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", NODE_PACKAGE]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    script = tmp_path / "chat.mjs"  # beside node_modules, where Node looks
    script.write_bytes((CLIENTS / "chat.mjs").read_bytes())
    check(seen_by(["node", script], gateway, tmp_path), "7")
