"""TensorZero's gateway, in Rust, as its Python package embeds it: nearest to Penstock in what it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import MODEL, START_S, launch, running


class TensorZero(Contender):
    """One Tokio thread, observability off: its journal needs a database server beside it, ours doesn't.

    The gateway as a program of its own comes only as a container image. The Python package holds the same HTTP server,
    for its own patched OpenAI client; `tensorzero_server.py` starts that one and then only waits, so no Python runs
    in a request's way. It chooses its port itself.
    """

    name = "tensorzero"
    speaks = "openai"
    quick = False

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.python_environment(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender; `port` is not used."""
        configuration, address = folder / "tensorzero.toml", folder / "tensorzero.address"
        configuration.write_text(config(upstreams.openai))
        command: list[str | Path] = [
            install.ENVIRONMENTS / self.name / "bin" / "python",
            "-P",  # or this very file, beside the script, would be what it imports as tensorzero
            Path(__file__).with_name("tensorzero_server.py"),
            configuration,
            address,
        ]
        process = launch(self.name, command, folder, {"TOKIO_WORKER_THREADS": "1", "RUST_LOG": "error"})
        process.wait_until(address.exists, START_S)
        return running(process, address.read_text(), model=f"tensorzero::model_name::{MODEL}")


def config(openai: str) -> str:
    """The gateway's configuration for one model behind `openai` (an origin without `/v1`)."""
    return f"""\
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true

[models.{MODEL}]
routing = ["upstream"]

[models.{MODEL}.providers.upstream]
type = "openai"
model_name = "{MODEL}"
api_base = "{openai}/v1/"
api_key_location = "none"
"""
