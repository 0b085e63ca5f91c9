"""vllm-router: the vLLM project's router in Rust, the cheapest of those that know what a model is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import free_port, launch, running


class VllmRouter(Contender):
    """One Tokio thread, one upstream in turn with itself, no retries, no circuit breaker, errors logged alone.

    Its default policy keeps a tree of prompts in order to find caches again; with one upstream that is cost without
    use, so it gets the plain one. Its metrics can't be switched off.
    """

    name = "vllm-router"
    speaks = "openai"
    quick = True

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.python_environment(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender."""
        command: list[str | Path] = [
            install.ENVIRONMENTS / self.name / "bin" / "python",
            *["-m", "vllm_router.launch_router"],
            *["--host", "127.0.0.1", "--port", str(port)],
            *["--worker-urls", upstreams.openai, "--worker-startup-check-interval", "1"],
            *["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker"],
            *["--log-level", "error", "--prometheus-port", str(free_port())],
        ]
        return running(launch(self.name, command, folder, {"TOKIO_WORKER_THREADS": "1"}), f"http://127.0.0.1:{port}/v1")
