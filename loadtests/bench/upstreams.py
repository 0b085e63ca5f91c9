"""The two upstreams, built from our own sources at run time: an OpenAI mock and a Triton with a compiled backend.

Both are far cheaper than anything measured, and answer the same (upstream/answer.h).
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gateway.supervisor.triton_environment import EnvironmentMissing, TritonEnvironment
from gateway.supervisor.triton_ports import LOOPBACK, free_port
from gateway.supervisor.triton_ready import wait_until_ready
from loadtests.bench.contender import Upstreams
from loadtests.bench.process import Process, answers

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".bench"
"""Everything that the bench makes: builds, environments of the peers, logs."""
MODEL = "bench"
_SOURCES = Path(__file__).parent / "upstream"
_READY_S = 60.0


class CannotBuild(RuntimeError):
    """An upstream can't be made here; the message says what is missing."""


def triton_environment() -> Path:
    """The one that `make triton-env` made, or that PENSTOCK_TRITON_ENV names."""
    return Path(os.environ.get("PENSTOCK_TRITON_ENV") or ROOT / ".venv-triton")


def triton_missing() -> str:
    """'' or why Triton can't be started here."""
    try:
        TritonEnvironment.find(triton_environment())
    except EnvironmentMissing as error:
        return str(error)
    return ""


def build(source: str, name: str, flags: Sequence[str] = ()) -> Path:
    """Compiles one of our C sources, unless that was done; the path of the result. Raises CannotBuild."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotBuild("there is no C compiler: install gcc")
    texts = b"".join((_SOURCES / file).read_bytes() for file in ("answer.h", source))
    folder = SCRATCH / "built" / hashlib.sha256(texts).hexdigest()[:12]
    built = folder / name
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = built.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O2", "-Wall", "-Wextra", *flags, "-o", str(fresh), str(_SOURCES / source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        fresh.replace(built)
    return built


@contextmanager
def upstreams(
    folder: Path, say: Callable[[str], None], *, openai: bool = True, triton: bool = True
) -> Iterator[Upstreams]:
    """The wanted ones, ready; what isn't wanted has no address. Logs go to `folder`, which must exist.

    Raises CannotBuild, and RuntimeError when one doesn't come up.
    """
    with ExitStack() as running:
        url = address = ""
        if openai:
            say("starting the OpenAI mock")
            port = free_port()
            mock = build("openai_mock.c", "openai_mock")
            running.enter_context(Process([str(mock), str(port)], folder / "openai_mock.log")).wait_until(
                lambda: answers(port, "/v1/models"), _READY_S
            )
            url = f"http://{LOOPBACK}:{port}"
        if triton:
            say("starting Triton")
            address = f"{LOOPBACK}:{_start_triton(folder, running)}"
        yield Upstreams(openai=url, triton=address)


def _start_triton(folder: Path, running: ExitStack) -> int:
    found = TritonEnvironment.find(triton_environment())
    port = free_port()
    command = [
        str(found.server),
        f"--model-repository={_repository(folder / 'models')}",
        f"--backend-directory={_backends(folder / 'backends')}",
        "--disable-auto-complete-config",
        "--allow-http=false",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={port}",
        "--grpc-infer-allocation-pool-size=64",
        "--allow-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        "--exit-timeout-secs=3",
    ]
    log = folder / "triton.log"
    triton = running.enter_context(Process(command, log, environment=found.variables(os.environ)))
    try:
        asyncio.run(asyncio.wait_for(wait_until_ready(LOOPBACK, port, [MODEL]), _READY_S))
    except TimeoutError:
        raise RuntimeError(f"Triton was not ready after {_READY_S:g} s; {log} ends with:\n{triton.tail()}") from None
    return port


def _repository(folder: Path) -> Path:
    (folder / MODEL / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy(_SOURCES / "config.pbtxt", folder / MODEL / "config.pbtxt")
    return folder


def _backends(folder: Path) -> Path:
    (folder / MODEL).mkdir(parents=True, exist_ok=True)
    library = build("triton_backend.c", "libtriton_bench.so", ("-shared", "-fPIC", "-pthread"))
    shutil.copy(library, folder / MODEL / "libtriton_bench.so")
    return folder
