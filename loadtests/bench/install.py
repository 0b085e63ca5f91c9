"""The peers' environments: one folder each under `.bench/envs/`, with exactly the versions of `PINS`.

Whoever can't be had is left out of the bench with a reason of one line; nothing here raises for that. A stamp, written
last, says that a folder is whole: a second run finds it in a millisecond, an interrupted one starts the folder anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

from loadtests.bench.upstreams import SCRATCH

PINS: dict[str, dict[str, str]] = {
    # from the Python package index
    "vllm-router": {"vllm-router": "0.1.17"},
    "sglang-router": {"sglang-router": "0.3.2"},
    "litellm": {"litellm[proxy]": "1.106.0"},
    "tensorzero": {"tensorzero": "2026.6.0"},
    "chart": {"matplotlib": "3.11.2"},
    # from npm; the gateway's bundle streams only with this release of the server below it
    "portkey": {"@portkey-ai/gateway": "1.15.2", "@hono/node-server": "1.14.1"},
    # from the distribution, as it comes
    "nginx": {},
}
"""Environment to the packages that it is made of, and their versions; the rest is the installer's choice."""

ENVIRONMENTS = SCRATCH / "envs"
PATIENCE_S = 900.0

Say = Callable[[str], None]


class CantBeHad(Exception):
    """Why an environment can't be made here, in one line."""


def python_environment(name: str, say: Say) -> str:
    """Makes `.bench/envs/<name>` from the package index, with uv where there is one; '' or why not."""

    def make(folder: Path) -> None:
        python = folder / "bin" / "python"
        wanted = [f"{package}=={version}" for package, version in PINS[name].items()]
        if uv := shutil.which("uv"):
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], name, say)
            _run([uv, "pip", "install", "--python", str(python), *wanted], name, say)
            return
        # Debian parts ensurepip from python3: then the pip of the Python below serves from outside.
        own_pip = find_spec("ensurepip") is not None
        _run([sys.executable, "-m", "venv", *([] if own_pip else ["--without-pip"]), str(folder)], name, say)
        pip = [str(python), "-m", "pip"] if own_pip else [_base_python(), "-m", "pip", "--python", str(python)]
        _run([*pip, "install", "--no-input", "--progress-bar", "off", *wanted], name, say)

    return _obtain(name, say, make)


def node_environment(name: str, say: Say) -> str:
    """Makes `.bench/envs/<name>` from npm, without running any package's scripts; '' or why not."""
    if missing := [program for program in ("node", "npm") if not shutil.which(program)]:
        return f"needs {' and '.join(missing)} on the PATH"

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        (package, version), *held = PINS[name].items()
        manifest = {"private": True, "dependencies": {package: version}, "overrides": dict(held)}
        (folder / "package.json").write_text(json.dumps(manifest))
        npm = ["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--prefix", str(folder)]
        _run(npm, name, say)

    return _obtain(name, say, make)


def distribution_program(name: str, say: Say) -> str:
    """Unpacks the distribution's package into `.bench/envs/<name>`, without root, unless the program is there already.

    '' or why not.
    """
    if program(name):
        return ""
    if missing := [tool for tool in ("apt-get", "dpkg") if not shutil.which(tool)]:
        return f"is not on the PATH, and there is no {' and no '.join(missing)} to unpack it with"

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        _run(["apt-get", "download", name], name, say, folder)
        packages = sorted(folder.glob("*.deb"))
        if not packages:
            raise CantBeHad("apt-get left no package behind")
        _run(["dpkg", "-x", str(packages[0]), str(folder)], name, say)
        found = program(name)
        if found is None:
            raise CantBeHad(f"the package {packages[0].name} holds no program {name}")
        _run([str(found), "-v"], name, say)

    return _obtain(name, say, make)


def program(name: str) -> Path | None:
    """A program of the distribution: the one on the PATH or in the system's folders, else the unpacked one."""
    unpacked = ENVIRONMENTS / name / "usr" / "sbin"
    places = [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", str(unpacked)]
    found = shutil.which(name, path=os.pathsep.join(places))
    return Path(found) if found else None


def version(name: str) -> str:
    """What `PINS` names; of a distribution's program, what it says of itself; '' if nothing does."""
    if PINS[name]:
        return ", ".join(f"{package} {release}" for package, release in PINS[name].items())
    found = program(name)
    if found is None:
        return ""
    done = subprocess.run([found, "-v"], capture_output=True, text=True, check=False)
    said = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return f"{name} {said.group()}" if said else ""


def _obtain(name: str, say: Say, make: Callable[[Path], None]) -> str:
    folder = ENVIRONMENTS / name
    stamp = folder / "bench-stamp"
    wanted = json.dumps([PINS[name], sys.version_info[:2], str(folder)])
    if stamp.is_file() and stamp.read_text() == wanted:
        return ""
    say(f"{name}: installing {version(name) or name} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    (ENVIRONMENTS / f"{name}.log").write_text("")
    try:
        make(folder)
    except (CantBeHad, OSError) as error:
        return f"could not be installed: {error}"
    stamp.write_text(wanted)
    say(f"{name}: ready")
    return ""


def _run(command: Sequence[str], name: str, say: Say, folder: Path | None = None) -> None:
    """Runs an installer; its words go to `.bench/envs/<name>.log`, its steps to `say`. Raises CantBeHad."""
    said = [f"{Path(command[0]).name} said nothing"]
    log_path = ENVIRONMENTS / f"{name}.log"
    with (
        log_path.open("a") as log,
        subprocess.Popen(
            command, cwd=folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        watch = Timer(PATIENCE_S, process.kill)
        watch.start()
        try:
            for line in filter(None, map(str.strip, process.stdout or ())):
                log.write(f"{line}\n")
                said.append(_without_addresses(line))
                if step := _STEP.match(said[-1]):
                    say(f"{name}: {step.group()}")
            code = process.wait()
        finally:
            watch.cancel()
    if code != 0:
        blamed = [line for line in said if "error" in line.lower() and "log" not in line]
        raise CantBeHad(f"{(blamed or said)[-1]} (exit code {code}, log in {log_path})")


_STEP = re.compile(
    r"Collecting [\w.-]+|Downloading \S+ \(.*MB?.*\)|(Resolved|Prepared|Installed|added) .*|Installing collected"
)
"""What pip, uv and npm say of their progress, as far as it is worth a line."""


def _without_addresses(line: str) -> str:
    """Where packages come from is the business of whoever set the installer up."""
    return re.sub(r"\w+://\S+", "…", line)


def _base_python() -> str:
    """The interpreter below the virtual environment that the bench runs in."""
    return str(getattr(sys, "_base_executable", sys.executable))
