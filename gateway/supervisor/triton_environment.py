"""The virtual environment that Triton runs in, and what its processes must be told to find it.

Triton comes out of the nvidia-pytriton wheel. Its Python backend looks for the stub beside
libtriton_python.so, while the wheel keeps one stub per Python version elsewhere; so a backend directory
of symlinks is made in the state folder, and the wheel stays as it was installed. The stub is linked to
libpython and brings no standard library: it is led to the environment by PATH, PYTHONPATH and
LD_LIBRARY_PATH.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class TritonError(Exception):
    """The embedded Triton can't be used; the message says why, and what would do."""


class EnvironmentMissing(TritonError):
    """There is no usable environment; the message names the command that makes it."""


@dataclass(frozen=True, slots=True)
class TritonEnvironment:
    """A found environment. `site` is its site-packages, `version` its Python, such as "3.11"."""

    root: Path
    site: Path
    version: str

    @classmethod
    def find(cls, root: Path) -> TritonEnvironment:
        """Check that `root` is an environment that Triton can run in.

        Errors: EnvironmentMissing.
        """
        for site in sorted(root.glob("lib/python3.*/site-packages")):
            found = cls(root.absolute(), site.absolute(), site.parent.name.removeprefix("python"))
            if found.server.is_file():
                found._check()
                return found
        raise EnvironmentMissing(
            f"there is no Triton in {root}; `make triton-env` makes the environment, or set engine.url to a"
            " Triton that runs elsewhere"
        )

    @property
    def server(self) -> Path:
        """The tritonserver binary."""
        return self.site / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The Python backend's process, for this version of Python."""
        stubs = self.site / "pytriton" / "tritonserver" / "python_backend_stubs"
        return stubs / self.version / "triton_python_backend_stub"

    @property
    def libraries(self) -> list[Path]:
        """Where the dynamic linker must look: Triton's own libraries, then the interpreter's."""
        folders = [self.site / "nvidia_pytriton.libs"]
        home = _home(self.root)
        if home is not None and (home.parent / "lib" / self._libpython).is_file():
            folders.append(home.parent / "lib")
        return folders

    def link_backends(self, folder: Path) -> Path:
        """Make the backend directory of symlinks in `folder` and return it."""
        wheel = self.site / "pytriton" / "tritonserver" / "backends" / "python"
        backend = folder / "python"
        backend.mkdir(parents=True, exist_ok=True)
        for target in (wheel / "libtriton_python.so", wheel / "triton_python_backend_utils.py", self.stub):
            link = backend / target.name
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        return folder

    def variables(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Environment variables for tritonserver and, through it, its stubs."""
        kept = {key: value for key, value in inherited.items() if key not in ("PYTHONHOME", "PYTHONSTARTUP")}
        more = inherited.get("LD_LIBRARY_PATH", "")
        return {
            **kept,
            "VIRTUAL_ENV": str(self.root),
            "PATH": f"{self.root / 'bin'}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "PYTHONPATH": str(self.site),
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # the model repository may be read-only, or in git
            "PYTHONUNBUFFERED": "1",
            "LD_LIBRARY_PATH": os.pathsep.join([*map(str, self.libraries), *([more] if more else [])]),
        }

    @property
    def _libpython(self) -> str:
        return f"libpython{self.version}.so.1.0"

    def _check(self) -> None:
        if not self.stub.is_file():
            have = sorted(path.name for path in self.stub.parent.parent.glob("3.*"))
            raise EnvironmentMissing(
                f"{self.root} is made with Python {self.version}, for which Triton has no stub"
                f" (it has {', '.join(have)}); make it with another Python: `make triton-env`"
            )


def _home(root: Path) -> Path | None:
    """The bin folder of the interpreter that made the environment."""
    try:
        lines = (root / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home":
            return Path(value.strip()).resolve()
    return None
