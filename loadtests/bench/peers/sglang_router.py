"""sglang-router: the SGLang project's router in Rust, out of which vllm-router grew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import free_port, launch, running


class SglangRouter(Contender):
    """One Tokio thread, one upstream in turn with itself, no retries, no circuit breaker, no health checks.

    Its default policy keeps a tree of prompts, as vllm-router's does, and is left out for the same reason. It leaves
    Nagle's algorithm on, which no option changes: its time to the first token shows it.
    """

    name = "sglang-router"
    speaks = "openai"
    quick = False

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.python_environment(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender."""
        command: list[str | Path] = [
            install.ENVIRONMENTS / self.name / "bin" / "python",
            *["-m", "sglang_router.launch_router"],
            *["--host", "127.0.0.1", "--port", str(port)],
            *["--worker-urls", upstreams.openai, "--worker-startup-check-interval", "1"],
            *["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker", "--disable-health-check"],
            *["--log-level", "error", "--prometheus-port", str(free_port())],
        ]
        environment = {
            "TOKIO_WORKER_THREADS": "1",
            "HF_ENDPOINT": "http://127.0.0.1:9",  # or it looks for the model's tokenizer on the network
        }
        return running(launch(self.name, command, folder, environment), f"http://127.0.0.1:{port}/v1")
