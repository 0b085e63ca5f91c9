"""Penstock as it is used: journal, metrics, validation, a split between two versions and a key check, one worker.

All its processes count: supervisor, control and worker.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from loadtests.bench.contender import Running, Upstreams
from loadtests.bench.process import Process, answers
from loadtests.bench.results import OURS
from loadtests.bench.upstreams import MODEL, ROOT, triton_missing

_KEY = "sk-bench-of-penstock"
_ENDPOINT = "assistant"
_CONFIG = """\
[server]
grpc = "127.0.0.1:0"
metrics = "127.0.0.1:0"
workers = 1
state = "state"

[engine]
url = "{triton}"

[[keys]]
name = "bench"
sha256 = "{key}"
endpoints = ["{endpoint}"]

[endpoints.{endpoint}]
sticky = "user"
split = {{ v1 = 90, v2 = 10 }}
"""
_VERSION = """
[endpoints.{endpoint}.versions.{version}]
model = "{model}"
chat_template = "{{% for message in messages %}}<|{{{{ message.role }}}}|>\\n{{{{ message.content }}}}\\n{{% endfor %}}"
price = {{ name = "bench", input = 150, output = 600 }}
"""


def config(triton: str) -> str:
    """The TOML; `triton` is host:port."""
    key = hashlib.sha256(_KEY.encode()).hexdigest()
    versions = [_VERSION.format(endpoint=_ENDPOINT, version=version, model=MODEL) for version in ("v1", "v2")]
    return "".join([_CONFIG.format(triton=triton, key=key, endpoint=_ENDPOINT), *versions])


class Penstock:
    """`penstock serve` from this checkout."""

    name = OURS
    speaks = "triton"
    quick = True

    def obtain(self, say: Callable[[str], None]) -> str:
        return triton_missing()

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """Raises RuntimeError."""
        path = folder / "penstock.toml"
        path.write_text(config(upstreams.triton))
        command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(path), "--http", f"127.0.0.1:{port}"]
        process = Process(command, folder / "penstock.log", folder=ROOT)
        process.wait_until(lambda: answers(port, "/ready"))
        headers = {"Authorization": f"Bearer {_KEY}"}
        return Running(f"http://127.0.0.1:{port}/v1", _ENDPOINT, process.pid, headers, process.stop)
