"""One Triton per repository and test session. The engine's pure modules are importable as penstock_engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.triton_server import EMBEDDED, IMITATIONS, LLMAPI, Served, running_triton

sys.path.insert(0, str(EMBEDDED / "assistant"))


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running_triton(EMBEDDED, tmp_path_factory.mktemp("assistant"), models=["assistant"]) as served:
        yield served


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running_triton(IMITATIONS, tmp_path_factory.mktemp("classic")) as served:
        yield served


@pytest.fixture(scope="session")
def llmapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running_triton(LLMAPI, tmp_path_factory.mktemp("llmapi")) as served:
        yield served
