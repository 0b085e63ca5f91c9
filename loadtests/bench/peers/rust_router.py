"""What vllm-router and sglang-router have in common: vllm-router grew out of the other, and both start alike."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import free_port, launch, running


class RustRouter(Contender):
    """One Tokio thread, one upstream in turn with itself, no retries, no circuit breaker, errors logged alone."""

    speaks = "openai"
    module: ClassVar[str]
    options: ClassVar[Sequence[str]] = ()
    environment: ClassVar[Mapping[str, str]] = {}

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.python_environment(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender."""
        command: list[str | Path] = [
            install.ENVIRONMENTS / self.name / "bin" / "python",
            *["-m", self.module],
            *["--host", "127.0.0.1", "--port", str(port)],
            *["--worker-urls", upstreams.openai, "--worker-startup-check-interval", "1"],
            *["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker", *self.options],
            *["--log-level", "error", "--prometheus-port", str(free_port())],
        ]
        environment = {"TOKIO_WORKER_THREADS": "1", **self.environment}
        return running(launch(self.name, command, folder, environment), f"http://127.0.0.1:{port}/v1")
