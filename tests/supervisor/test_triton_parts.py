"""The parts of the embedded Triton that need no Triton: repositories, environment, log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.supervisor.triton_environment import EnvironmentMissing, TritonEnvironment
from gateway.supervisor.triton_log import progress, useful
from gateway.supervisor.triton_ports import ReservedPort
from gateway.supervisor.triton_repository import RepositoryError, collect_models
from tests.triton_server import EMBEDDED, IMITATIONS


def test_models_are_the_folders_with_a_config(tmp_path: Path) -> None:
    models = collect_models(IMITATIONS, {}, tmp_path / "made")
    assert models.repositories == (IMITATIONS,)
    assert models.names == ("ensemble", "postprocessing", "preprocessing", "tensorrt_llm", "tensorrt_llm_bls")
    assert collect_models(IMITATIONS, {}, tmp_path / "made", ["tensorrt_llm"]).names == ("tensorrt_llm",)


def test_a_further_model_is_the_assistant_with_other_weights(tmp_path: Path) -> None:
    weights = tmp_path / 'my "own".gguf'
    weights.write_bytes(b"")
    made = tmp_path / "made"
    (made / "left-over").mkdir(parents=True)
    models = collect_models(EMBEDDED, {"mine": weights}, made, ["assistant"])
    assert models.repositories == (EMBEDDED, made)
    assert models.names == ("assistant", "mine")
    assert sorted(path.name for path in made.iterdir()) == ["mine"]
    config = (made / "mine" / "config.pbtxt").read_text()
    assert 'name: "mine"' in config
    quoted = str(weights).replace('"', '\\"')
    assert f'{{ key: "model_path" value: {{ string_value: "{quoted}" }} }}' in config
    for unknown in ("kv_blocks", "threads"):
        assert re.search(rf'"{unknown}" value: \{{ string_value: "0" \}}', config)
    assert (made / "mine" / "1" / "model.py").read_text() == (EMBEDDED / "assistant" / "1" / "model.py").read_text()
    assert (made / "mine" / "penstock_engine" / "loop.py").is_file()


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("assistant", "there.gguf", "model 'assistant' is already in"),
        ("a/b", "there.gguf", "'a/b' can't name a model"),
        ("mine", "nowhere.gguf", "there is nothing at"),
        ("mine", "folder", "holds no openvino_model.xml"),
        ("mine", "there.bin", "is neither a .gguf file nor an OpenVINO folder"),
    ],
)
def test_further_models_that_can_not_be(tmp_path: Path, name: str, path: str, message: str) -> None:
    (tmp_path / "there.gguf").touch()
    (tmp_path / "there.bin").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(RepositoryError, match=re.escape(message)):
        collect_models(EMBEDDED, {name: tmp_path / path}, tmp_path / "made")


def test_repositories_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="there is no model in"):
        collect_models(tmp_path, {}, tmp_path / "made")
    with pytest.raises(RepositoryError, match=r"no model 'x' in .* it has ensemble, "):
        collect_models(IMITATIONS, {}, tmp_path / "made", ["x"])


def environment(root: Path, stubs: list[str]) -> Path:
    server = root / "lib" / "python3.12" / "site-packages" / "pytriton" / "tritonserver"
    for file in ("bin/tritonserver", *(f"python_backend_stubs/{v}/triton_python_backend_stub" for v in stubs)):
        (server / file).parent.mkdir(parents=True)
        (server / file).touch()
    return root


def test_environment(tmp_path: Path) -> None:
    root = environment(tmp_path / "env", ["3.11", "3.12"])
    home = tmp_path / "python" / "bin"
    (tmp_path / "python" / "lib").mkdir(parents=True)
    (tmp_path / "python" / "lib" / "libpython3.12.so.1.0").touch()
    (root / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3.12.1\n")
    found = TritonEnvironment.find(root)
    variables = found.variables({"PATH": "/bin", "PYTHONHOME": "/x", "LD_LIBRARY_PATH": "/more"})
    libraries = f"{found.site}/nvidia_pytriton.libs:{tmp_path}/python/lib:/more"
    assert variables["LD_LIBRARY_PATH"] == libraries
    assert variables["PATH"] == f"{root}/bin:/bin"
    assert variables["PYTHONPATH"] == str(found.site)
    assert "PYTHONHOME" not in variables
    backends = found.link_backends(tmp_path / "backends")
    assert (backends / "python" / "triton_python_backend_stub").readlink() == found.stub
    assert found.stub.parent.name == "3.12"


def test_environment_without_a_stub_for_its_python(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match=r"Python 3\.12, .* \(it has 3\.11\)"):
        TritonEnvironment.find(environment(tmp_path, ["3.11"]))


LOG = [
    'E1123 08:54:47.038944 15131 server.cc:241] "CudaDriverHelper has not been initialized."',
    'I1123 08:54:47.041264 15131 model_lifecycle.cc:472] "loading: assistant:1"',
    "E1123 08:54:49.150274 15131 model_lifecycle.cc:642] \"failed to load 'a' version 1: Internal: X\\n\\nAt:\\n  y\"",
    "+-----------+---------+",
    "| assistant | 1       |",
    'I1123 08:54:49.342507 15131 server.cc:336] "All models are stopped, unloading models"',
    "error: creating server: Invalid argument",
]


def test_log_lines_worth_showing() -> None:
    assert useful(LOG) == ["failed to load 'a' version 1: Internal: X"]
    assert useful(["one", "two", "", "+--+"]) == ["one", "two"], "without an error, the last lines"
    many = [f'E1123 08:54:49.150274 1 a.cc:1] "{number}"' for number in range(50)]
    assert useful(many) == [str(number) for number in range(38, 50)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LOG[1], "Triton is loading assistant version 1"),
        (
            "I1123 08:55:10.5 1 model_lifecycle.cc:849] \"successfully loaded 'assistant'\"",
            "Triton has loaded assistant",
        ),
        (LOG[5], None),
    ],
)
def test_progress(line: str, words: str | None) -> None:
    assert progress(line) == words


def test_reserved_ports_differ() -> None:
    ports = [ReservedPort() for _ in range(20)]
    assert len({port.number for port in ports}) == 20
    for port in ports:
        port.close()
