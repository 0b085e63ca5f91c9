"""sglang-router: the SGLang project's router in Rust, out of which vllm-router grew."""

from typing import ClassVar

from loadtests.bench.peers.rust_router import RustRouter


class SglangRouter(RustRouter):
    """One Tokio thread, one upstream in turn with itself, no retries, no circuit breaker, no health checks.

    Its default policy keeps a tree of prompts, as vllm-router's does, and is left out for the same reason. It leaves
    Nagle's algorithm on, which no option changes: its time to the first token shows it.
    """

    name = "sglang-router"
    module = "sglang_router.launch_router"
    quick = False
    options = ("--disable-health-check",)
    environment: ClassVar = {
        "HF_ENDPOINT": "http://127.0.0.1:9"
    }  # or it looks for the model's tokenizer on the network
