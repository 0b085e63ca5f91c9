"""What Triton is to load: the models of a repository, and further ones made out of a path to weights.

A further model is a folder in the state directory: the shipped assistant's config.pbtxt under another
name and with another `model_path`, its entry point, and a link to its engine. So it has the same tensors
and the same behaviour; only the weights differ.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.supervisor.triton_environment import TritonError

TEMPLATE = "assistant"
"""The model of the repository that further ones are made after."""
_ENGINE = "penstock_engine"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RepositoryError(TritonError):
    """The models can't be loaded as asked; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Models:
    """Repositories for Triton, and the names of the models in them."""

    repositories: tuple[Path, ...]
    names: tuple[str, ...]


def collect_models(
    repository: Path, extra: Mapping[str, Path], folder: Path, only: Sequence[str] | None = None
) -> Models:
    """Find the repository's models and make the further ones in `folder`, which is emptied first.

    Args:
        repository: a Triton model repository; its models are the folders with a config.pbtxt.
        extra: name -> a .gguf file or an OpenVINO folder.
        only: of the repository's models, those to load; all if None.

    Errors: RepositoryError.
    """
    found = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    if not found:
        raise RepositoryError(f"there is no model in {repository}: no folder with a config.pbtxt")
    names = found if only is None else list(only)
    for name in names:
        if name not in found:
            raise RepositoryError(f"there is no model {name!r} in {repository}; it has {', '.join(found)}")
    shutil.rmtree(folder, ignore_errors=True)
    if not extra:
        return Models((repository,), tuple(names))
    template = repository / TEMPLATE
    for name, weights in extra.items():
        if name in found:
            raise RepositoryError(f"model {name!r} is already in {repository}; give yours another name")
        _make_model(template, name, weights, folder / name)
    return Models((repository, folder), (*names, *extra))


def _make_model(template: Path, name: str, weights: Path, folder: Path) -> None:
    if not _NAME.fullmatch(name):
        raise RepositoryError(f"{name!r} can't name a model: letters, digits, dots, dashes and underscores only")
    if not weights.exists():
        raise RepositoryError(f"model {name!r}: there is nothing at {weights}")
    if weights.is_dir() and not (weights / "openvino_model.xml").is_file():
        raise RepositoryError(f"model {name!r}: {weights} holds no openvino_model.xml, so it is no OpenVINO folder")
    if weights.is_file() and weights.suffix != ".gguf":
        raise RepositoryError(f"model {name!r}: {weights} is neither a .gguf file nor an OpenVINO folder")
    if not (template / _ENGINE).is_dir():
        raise RepositoryError(f"model {name!r} needs the engine of {template}, which isn't there")
    config = (template / "config.pbtxt").read_text()
    config = _set(config, r'^(name: )"[^"]*"', name)
    config = _set(config, r'(key: "model_path" value: \{ string_value: )"[^"]*"', str(weights.absolute()))
    # Its size isn't known: the cache grows with use instead of being reserved, and it gets every core.
    config = _set(config, r'(key: "kv_blocks" value: \{ string_value: )"[^"]*"', "0")
    config = _set(config, r'(key: "threads" value: \{ string_value: )"[^"]*"', "0")
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / _ENGINE).symlink_to((template / _ENGINE).absolute())
    (version / "model.py").symlink_to((template / "1" / "model.py").absolute())


def _set(config: str, pattern: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    changed, count = re.subn(pattern, lambda match: f'{match[1]}"{quoted}"', config, flags=re.MULTILINE)
    if count != 1:
        raise RepositoryError(f"the shipped config.pbtxt has {count} places for {pattern!r} instead of one")
    return changed
