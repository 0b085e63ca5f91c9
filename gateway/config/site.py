"""What the values of a config are held against: the folders, the engine, and the models it will have.

Pure but for looking at files that the config names. `model_template` answers the one question that depends
on all of it: which chat template does a model bring along?
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct

from gateway.config.embedded import shipped_models
from gateway.config.problem import KeyPath, Report, found_words
from gateway.config.settings import EngineConfig, ModelSource
from gateway.config.template import Template, TemplateError, read_template


class Site(Struct, frozen=True):
    """Relative paths begin at `folder`. `shipped` are the models of `repository`, none with `engine.url`.

    `named` are all names in [engine.models], those with an unsound path included.
    """

    folder: Path
    repository: Path
    engine: EngineConfig
    shipped: dict[str, tuple[int, ...]]
    named: frozenset[str]

    def model_template(self, model: str, model_version: str, explicit: bool, at: KeyPath, report: Report) -> Template:
        """The template and special tokens that a model of the embedded Triton brings; none for a remote one.

        Notes a problem when the embedded Triton will have no such model or version. With `explicit`, the
        version names a template of its own, so that a model without one is no problem.
        """
        if self.engine.url:
            return Template()
        if source := self.engine.models.get(model):
            return self._of_source(source, model_version, explicit, at, report)
        if model in self.named:
            return Template()  # its path has been reported
        if not self.shipped:
            if not explicit:
                says = f"there are no shipped models in {self.repository}"
                report.add((*at, "model"), says, "install Penstock anew, or set engine.url to a Triton of yours", model)
            return Template()
        versions = self.shipped.get(model)
        if versions is None:
            report.add((*at, "model"), f"the embedded Triton has no model '{model}'", self._near(model), model)
            return Template()
        number = int(model_version) if model_version else versions[-1]
        if number not in versions:
            remedy = f"it has {', '.join(map(str, versions))}"
            says = f"the shipped model '{model}' has no version {number}"
            report.add((*at, "model_version"), says, remedy, model_version)
            return Template()
        return self._brought(self.repository / model / str(number), explicit, at, report)

    def _of_source(
        self, source: ModelSource, model_version: str, explicit: bool, at: KeyPath, report: Report
    ) -> Template:
        if model_version not in ("", "1"):
            says = f"a model of [engine.models] has the version 1 only, not {model_version}"
            report.add((*at, "model_version"), says, "leave model_version out", model_version)
        return self._brought(source.path, explicit, at, report)

    def _brought(self, path: Path, explicit: bool, at: KeyPath, report: Report) -> Template:
        try:
            return read_template(path)
        except TemplateError as error:
            if not explicit and not error.absent:
                report.add((*at, "model"), error.says, "mend the file, or name a chat_template", str(path))
            return Template()

    def _near(self, model: str) -> str:
        known = sorted({*self.shipped, *self.named})
        if near := get_close_matches(model, known, 1):
            return f"did you mean '{near[0]}'?"
        return f"it has {', '.join(known)}; add another by path in [engine.models], or set engine.url"


def look_at(folder: Path, repository: Path, engine: EngineConfig, named: frozenset[str], report: Report) -> Site:
    """The site of a config. Notes problems: a repository that cannot be listed, a name taken in it."""
    shipped: dict[str, tuple[int, ...]] = {}
    if not engine.url:
        try:
            shipped = shipped_models(repository)
        except OSError as error:
            says = f"{repository} cannot be read ({error.strerror})"
            report.add(("engine",), says, "check its permissions", str(repository))
    for name in sorted(named & shipped.keys()):
        says = f"Penstock ships a model named '{name}'"
        report.add(("engine", "models", name), says, "give yours another name", name)
    return Site(folder, repository, engine, shipped, named)


def read_sources(given: dict[str, str | None], folder: Path, at: KeyPath, report: Report) -> dict[str, ModelSource]:
    """The models of [engine.models]. Notes a problem for each that is missing or of no known kind."""
    sources = {}
    for name, value in given.items():
        if value is None:
            continue  # unsound, and reported
        path = folder / value
        try:
            source = _source(path)
        except (OSError, ValueError) as error:
            source = str(getattr(error, "strerror", None) or error)
        if isinstance(source, str):
            remedy = "give the path of a .gguf file or of a folder with openvino_model.xml"
            report.add((*at, name), f"{path}: {source}", remedy, found_words(value))
        else:
            sources[name] = source
    return sources


def _source(path: Path) -> ModelSource | str:
    """The model at a path, or what is wrong with it."""
    if path.is_dir():
        known = (path / "openvino_model.xml").is_file()
        return ModelSource(path, "openvino") if known else "no openvino_model.xml in it"
    if not path.is_file():
        return "there is no such file or folder"
    with path.open("rb") as file:
        return ModelSource(path, "gguf") if file.read(4) == b"GGUF" else "this file is not GGUF"
