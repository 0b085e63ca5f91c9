"""Portkey's open gateway, on Node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import launch, running


class Portkey(Contender):
    """One process, without its log page; provider and upstream are named by each request's headers, as it is used.

    Node adds threads of its own for files, DNS and garbage; the requests are served by one.
    """

    name = "portkey"
    speaks = "openai"
    quick = False

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.node_environment(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender."""
        package = install.ENVIRONMENTS / self.name / "node_modules" / "@portkey-ai" / "gateway"
        command: list[str | Path] = ["node", package / "build" / "start-server.js", f"--port={port}", "--headless"]
        process = launch(self.name, command, folder, {"NODE_ENV": "production"})
        headers = {
            "Authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{upstreams.openai}/v1",
        }
        return running(process, f"http://127.0.0.1:{port}/v1", headers=headers)
