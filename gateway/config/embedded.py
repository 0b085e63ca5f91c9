"""Where the model repository of the embedded Triton lies, and what is in it."""

from __future__ import annotations

from pathlib import Path


def embedded_repository() -> Path:
    """The shipped model repository: gateway/model_repo in a wheel, model_repo/embedded in a checkout.

    The folder is not looked into; the path of the checkout is given when there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "model_repo"
    return installed if installed.is_dir() else package.parent / "model_repo" / "embedded"


def shipped_models(repository: Path) -> dict[str, tuple[int, ...]]:
    """Model → its versions, in ascending order, as Triton finds them: folders with a number for a name.

    Empty when there is no such repository. Errors: OSError when it cannot be listed.
    """
    models = {model.name: _versions(model) for model in sorted(_folders(repository))}
    return {name: versions for name, versions in models.items() if versions}


def _versions(model: Path) -> tuple[int, ...]:
    names = [folder.name for folder in _folders(model)]
    return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0"))


def _folders(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()] if path.is_dir() else []
