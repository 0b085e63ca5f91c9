"""LiteLLM's proxy: the Python gateway that most people know."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import MODEL, launch, running


class LiteLLM(Contender):
    """One worker without a database: nothing is journalled, no callbacks, errors logged alone.

    It won't start without a master key unless told that this is dangerous, so it checks one, as Penstock does here.
    Prices and whatever else it would fetch come from the package, not from the network.
    """

    name = "litellm"
    speaks = "openai"
    quick = True

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.python_environment(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender."""
        path = folder / "litellm.yaml"
        path.write_text(json.dumps(config(upstreams.openai), indent=1))  # JSON is YAML
        key = f"sk-{secrets.token_hex(16)}"
        environment = {
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
            "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
            "LITELLM_LOCAL_BLOG_POSTS": "True",
            "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",  # no .env file is looked for
        }
        command: list[str | Path] = [
            install.ENVIRONMENTS / self.name / "bin" / "litellm",
            *["--config", str(path), "--host", "127.0.0.1", "--port", str(port)],
            *["--num_workers", "1", "--telemetry", "False"],
        ]
        return running(
            launch(self.name, command, folder, environment),
            f"http://127.0.0.1:{port}/v1",
            headers={"Authorization": f"Bearer {key}"},
        )


def config(openai: str) -> dict[str, Any]:
    """The proxy's configuration for one model behind `openai` (an origin without `/v1`)."""
    upstream = {"model": f"openai/{MODEL}", "api_base": f"{openai}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "litellm_settings": {"num_retries": 0, "set_verbose": False},
        "general_settings": {"disable_spend_logs": True},
    }
