"""vllm-router: the vLLM project's router in Rust, the cheapest of those that know what a model is."""

from loadtests.bench.peers.rust_router import RustRouter


class VllmRouter(RustRouter):
    """One Tokio thread, one upstream in turn with itself, no retries, no circuit breaker, errors logged alone.

    Its default policy keeps a tree of prompts in order to find caches again; with one upstream that is cost without
    use, so it gets the plain one. Its metrics can't be switched off.
    """

    name = "vllm-router"
    module = "vllm_router.launch_router"
    quick = True
