"""One Triton per model repository and test session, for all tests that do not break it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.triton_server import EMBEDDED, IMITATIONS, LLMAPI, Served, running_triton

# Whoever starts us in the background may have us ignore SIGINT; what we start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, so that a run says something of the change before it. PENSTOCK_EXPLORE=1 looks for new.
settings.register_profile("house", derandomize=not os.environ.get("PENSTOCK_EXPLORE"))
settings.load_profile("house")


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # Also the way a user brings a model: by path. Nothing lies beside it, so all is read from the .gguf file.
    alone = tmp_path_factory.mktemp("weights") / "alone.gguf"
    alone.write_bytes((EMBEDDED / "assistant" / "1" / "model.gguf").read_bytes())
    state = tmp_path_factory.mktemp("assistant")
    with running_triton(EMBEDDED, state, models=["assistant"], extra_models={"mine": alone}) as served:
        yield served


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running_triton(IMITATIONS, tmp_path_factory.mktemp("classic")) as served:
        yield served


@pytest.fixture(scope="session")
def llmapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running_triton(LLMAPI, tmp_path_factory.mktemp("llmapi")) as served:
        yield served
