"""The wheel builds without a network and holds what runs, nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("dist")
    # The backend itself, in this environment: no front end, no isolation, so nothing can be fetched.
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name == f"penstock-{gateway.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(wheel).namelist()


def test_top_level(names: list[str]) -> None:
    packages = {name.partition("/")[0] for name in names}
    assert packages == {"gateway", "gateway_kernels", "penstock", f"penstock-{gateway.__version__}.dist-info"}


def test_every_module_is_in(names: list[str]) -> None:
    modules = {
        str(path.relative_to(base))
        for base, folder in ((ROOT, "gateway"), (ROOT / "kernels", "gateway_kernels"), (ROOT / "proto", "penstock"))
        for path in (base / folder).rglob("*.py")
    }
    assert modules <= set(names)


def test_what_triton_loads_is_in(names: list[str]) -> None:
    held = [name.removeprefix("gateway/model_repo/") for name in names if name.startswith("gateway/model_repo/")]
    wanted = {".gguf", ".jinja", ".json", ".pbtxt", ".py", ".safetensors"}
    embedded = ROOT / "model_repo" / "embedded"
    assert sorted(held) == sorted(
        str(path.relative_to(embedded))
        for path in embedded.rglob("*")
        if path.suffix in wanted and "__pycache__" not in path.parts
    )
    assert any(name.endswith("config.pbtxt") for name in held)


def test_the_folders_above_are_no_packages() -> None:
    assert not [name for name in ("kernels", "proto", "tests") if (ROOT / name / "__init__.py").exists()]
