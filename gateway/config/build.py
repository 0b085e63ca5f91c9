"""From checked values to the structs of a Config: defaults, paths, and the rules that span several keys.

Rules: like the walk, this notes problems and goes on. Where a value was unsound and is missing from `given`,
the default stands in for it; nobody sees the result, for the Report then refuses the whole.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gateway.config.problem import KeyPath, Report, dotted, found_words, quoted
from gateway.config.settings import Address, EngineConfig, JournalConfig, ServerConfig
from gateway.config.site import Site, read_sources
from gateway.config.template import Template, TemplateError, check_template, is_inline, read_template
from gateway.routing.version import Endpoint, Price, SamplingDefaults, SamplingLimits, Version

Given = dict[str, Any]
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - only compared with
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def build_server(given: Given, folder: Path, report: Report) -> ServerConfig:
    """[server], with `state` absolute. Notes a problem for two faces on one port of one host."""
    server = ServerConfig(**{**given, "state": folder / given.get("state", ServerConfig().state)})
    faces = [("http", server.http), ("grpc", server.grpc), ("metrics", server.metrics)]
    for index, (face, address) in enumerate(faces):
        for other, taken in faces[:index]:
            if address.port and address.port == taken.port and _overlap(address, taken):
                # A flag is to blame before the file, and the file before a default.
                blamed = min(face, other, key=lambda f: (("server", f) not in report.flags, f not in given))
                found = str(getattr(server, blamed))
                says = f"found {found}, where {other if blamed == face else face} listens too"
                report.add(("server", blamed), says, "give each its own port, or 0 for any free one", found)
    return server


def _overlap(one: Address, two: Address) -> bool:
    same = one.host.lower() == two.host.lower() or (one.host in _LOOPBACK and two.host in _LOOPBACK)
    return same or one.host in _EVERYWHERE or two.host in _EVERYWHERE


def build_engine(given: Given, folder: Path, report: Report) -> EngineConfig:
    """[engine], with paths absolute. Notes a problem for [engine.models] beside `url`."""
    named = given.get("models", {})
    at = ("engine", "models")
    if named and given.get("url"):
        remedy = "remove [engine.models], or remove url to use the embedded Triton"
        report.add(at, "only the embedded Triton loads models by path, and engine.url names another one", remedy)
        named = {}
    environment = given.get("environment", "")
    return EngineConfig(
        **{
            **given,
            "models": read_sources(named, folder, at, report),
            "environment": str(folder / environment) if environment else "",
        }
    )


def build_journal(given: Given, report: Report) -> JournalConfig:
    """[journal]. Notes a problem where not even one segment may be kept."""
    journal = JournalConfig(**given)
    if journal.keep_bytes < journal.segment_bytes:
        key = "keep_bytes" if "keep_bytes" in given else "segment_bytes"
        found = found_words(getattr(journal, key))
        says = f"found {found}: keep_bytes ({journal.keep_bytes}) is less than segment_bytes ({journal.segment_bytes})"
        report.add(("journal", key), says, "raise keep_bytes or lower segment_bytes", found)
    return journal


def build_endpoints(given: Given, site: Site, report: Report) -> dict[str, Endpoint]:
    """[endpoints]: templates found and checked, splits complete."""
    return {name: _endpoint(name, value, site, report) for name, value in given.items()}


def _endpoint(name: str, given: Given, site: Site, report: Report) -> Endpoint:
    at: KeyPath = ("endpoints", name)
    versions = {key: _version(name, key, value, site, report) for key, value in given.get("versions", {}).items()}
    split = _split(given.get("split"), versions, at, report)
    content, in_traces = given.get("content", "full"), given.get("content_in_traces", False)
    if in_traces and content != "full":
        says = f'spans are made from the journal, where content = "{content}" leaves no text'
        remedy = 'leave content_in_traces out, or set content = "full"'
        report.add((*at, "content_in_traces"), says, remedy, found_words(in_traces))
    return Endpoint(name, versions, split, given.get("sticky", "user"), given.get("salt", ""), content, in_traces)


def _split(
    given: dict[str, float] | None, versions: dict[str, Version], at: KeyPath, report: Report
) -> dict[str, float]:
    """Version → weight for every version, 0 for those that the split leaves out."""
    if given is None:
        if len(versions) > 1:
            shares = ", ".join(
                f"{dotted((version,))} = {10 if index else 90}" for index, version in enumerate(versions)
            )
            says = f"there are {len(versions)} versions and no split"
            report.add(at, says, f"add a split, such as split = {{ {shares} }}")
        return dict.fromkeys(versions, 1.0)
    for version in given:
        if version not in versions and versions:
            says = f"the endpoint has no version {quoted(version)}"
            report.add((*at, "split", version), says, f"it has {', '.join(versions)}", version)
    if versions and not any(given.values()):
        report.add((*at, "split"), "no version has a weight above 0", "give at least one a share, such as v1 = 100")
    return {version: given.get(version, 0.0) for version in versions}


def _version(endpoint: str, name: str, given: Given, site: Site, report: Report) -> Version:
    at: KeyPath = ("endpoints", endpoint, "versions", name)
    defaults, limits = given.get("defaults", {}), given.get("limits", {})
    ceiling = SamplingLimits(**limits)
    for key in ("max_tokens", "temperature"):
        asked, most = defaults.get(key, -math.inf), getattr(ceiling, key)
        if asked > most:
            says = f"found {asked}, above what limits.{key} allows ({most})"
            report.add((*at, "defaults", key), says, "lower the default or raise the limit", found_words(asked))
    template = _template(given, site, at, report)
    return Version(
        endpoint=endpoint,
        name=name,
        model=given.get("model", ""),
        model_version=given.get("model_version", ""),
        chat_template=template.source,
        template_vars=template.variables,
        determinism=given.get("determinism", "free"),
        text_mode=given.get("text_mode", "auto"),
        tokenizer=_tokenizer(given.get("tokenizer", ""), site.folder, at, report),
        defaults=SamplingDefaults(**defaults),
        limits=ceiling,
        price=_price(given.get("price")),
    )


def _price(given: Given | None) -> Price | None:
    # A price that lacks a key has been reported; 0 stands in.
    return None if given is None else Price(given.get("name", ""), given.get("input", 0), given.get("output", 0))


def _template(given: Given, site: Site, at: KeyPath, report: Report) -> Template:
    """The template that the version names, else its model's; special tokens that it lacks are the model's."""
    value = given.get("chat_template", "")
    brought = Template()
    if "model" in given:
        brought = site.model_template(given["model"], given.get("model_version", ""), bool(value), at, report)
    key = (*at, "chat_template")
    try:
        if not value:
            key = (*at, "model")
            template = brought
        elif is_inline(value):
            template = Template(value, brought.variables)
        elif not value.isprintable():
            raise TemplateError("it has several lines and no {{ or {%", "give a path, or Jinja")
        else:
            template = read_template(site.folder / value)
            if not template.source:
                raise TemplateError(f"{site.folder / value} holds no chat template", "name a file that does")
            variables = dict(brought.variables) | dict(template.variables)
            template = Template(template.source, tuple(sorted(variables.items())))
        check_template(template.source)
    except TemplateError as error:
        report.add(key, error.says, error.remedy, found_words(value))
        return Template()
    return template


def _tokenizer(value: str, folder: Path, at: KeyPath, report: Report) -> str:
    """The absolute path of a tokenizer.json, "" for none."""
    if not value:
        return ""
    path = folder / value
    try:
        path = path / "tokenizer.json" if path.is_dir() else path
        says = "" if path.is_file() else f"there is no {path}"
    except OSError as error:
        says = f"{path} cannot be read ({error.strerror})"
    if says:
        report.add((*at, "tokenizer"), says, "give the path of a tokenizer.json", found_words(value))
    return str(path)
