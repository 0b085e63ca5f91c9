"""Chat templates: from what the config names to Jinja source and the special tokens that go with it.

Rules: a template file is data from strangers, so it is parsed and never rendered or folded here (Jinja's
compiler evaluates constant expressions, its parser does not); sizes are bounded; whatever is wrong ends in
TemplateError, with the template's own line where there is one. Only what the template's own source or its
folder declares becomes a variable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct

from gateway.config.gguf import GgufError, read_gguf

MAX_BYTES = 1 << 20  # of a template
MAX_JSON = 1 << 25  # of a tokenizer_config.json, which may list every added token
_JINJA, _JSON, _CONFIG = "chat_template.jinja", ".json", "tokenizer_config.json"
_KINDS = "give a .jinja file, a tokenizer_config.json, a .gguf, a folder that holds one, or Jinja itself"
# As Hugging Face renders chat templates (transformers, utils/chat_template_utils.py).
_environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)


class TemplateError(Exception):
    """A chat template that cannot be used, and what would do. `absent`: the place is sound but holds none."""

    def __init__(self, says: str, remedy: str, *, absent: bool = False) -> None:
        super().__init__(says)
        self.says = says
        self.remedy = remedy
        self.absent = absent


class Template(Struct, frozen=True):
    """Jinja source, "" for none, and the special tokens as pairs such as ("bos_token", "<s>"), by name."""

    source: str = ""
    variables: tuple[tuple[str, str], ...] = ()


def is_inline(value: str) -> bool:
    """Whether a value of `chat_template` is Jinja itself and not a path."""
    return "{{" in value or "{%" in value


def check_template(source: str) -> None:
    """Errors: TemplateError when `source` is not Jinja, or needs what a chat template does not have."""
    if len(source) > MAX_BYTES:
        raise TemplateError(f"the chat template has more than {MAX_BYTES} characters", "is this the right file?")
    try:
        tree = _environment.parse(source)
    except TemplateSyntaxError as error:
        reason = (error.message or "").rstrip(".")
        says = f"the chat template does not compile, in its line {error.lineno}: {reason}"
        raise TemplateError(says, "correct the template") from None
    except RecursionError:
        raise TemplateError("the chat template is nested too deeply", "correct the template") from None
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        says = f"the chat template loads another, in its line {node.lineno}"
        raise TemplateError(says, "a chat template stands alone: copy the other into it")
    for used in tree.find_all(nodes.Filter):
        if used.name not in _environment.filters:
            says = f"the chat template uses the unknown filter '{used.name}', in its line {used.lineno}"
            raise TemplateError(says, "use Jinja's own filters")


def read_template(path: Path) -> Template:
    """The template of a file or folder, not yet checked; its source is "" when the file has none.

    Errors: TemplateError when there is no such file, or it is of no kind that holds a template.
    """
    try:
        if path.is_dir():
            return _from_folder(path)
        if not path.exists():
            raise TemplateError(f"there is no {path}", _KINDS)
        if path.suffix == ".gguf":
            source, tokens = read_gguf(path)
            return Template(source, tuple(sorted(tokens.items())))
        if path.name == _CONFIG:
            return _from_folder(path.parent, path)
        if path.suffix in (".jinja", ".jinja2", ".j2"):
            beside = path.with_name(_CONFIG)
            return Template(_text(path, MAX_BYTES), _declared(beside).variables if beside.is_file() else ())
        if path.suffix == _JSON:
            return _declared(path)
    except GgufError as error:
        raise TemplateError(f"{path} is not a sound GGUF file: {error}", "is this the right file?") from None
    except OSError as error:
        raise TemplateError(f"{path} cannot be read ({error.strerror})", "check the path and its permissions") from None
    raise TemplateError(f"{path} is no kind of file that holds a chat template", _KINDS)


def _from_folder(folder: Path, config: Path | None = None) -> Template:
    """A folder as Hugging Face lays it out: newer ones keep the template beside tokenizer_config.json."""
    config = config or folder / _CONFIG
    declared = _declared(config) if config.is_file() else None
    if (folder / _JINJA).is_file():
        return Template(_text(folder / _JINJA, MAX_BYTES), declared.variables if declared else ())
    if declared:
        return declared
    for suffix in (".jinja", ".gguf"):
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) == 1:
            return read_template(found[0])
        if found:
            raise TemplateError(f"the folder {folder} has {len(found)} {suffix} files", "name one of them")
    says = f"the folder {folder} has no {_CONFIG}, no {_JINJA} and no .gguf"
    raise TemplateError(says, _KINDS, absent=True)


def _declared(path: Path) -> Template:
    """What a tokenizer_config.json says. A list of templates is an older format; its "default" is taken."""
    try:
        values = msgspec.json.decode(_text(path, MAX_JSON), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise TemplateError(f"{path} is not a JSON object", "is this the right file?") from None
    source = values.get("chat_template") or ""
    if isinstance(source, list):
        named = (item for item in source if isinstance(item, dict) and item.get("name") == "default")
        source = next(named, {}).get("template")
        if not isinstance(source, str):
            says = f'{path} has several chat templates and none is named "default"'
            raise TemplateError(says, "put the right one into a .jinja file and name that")
    if not isinstance(source, str):
        raise TemplateError(f"the chat_template in {path} is no string", "is this the right file?")
    tokens = {key: _token(value) for key, value in values.items() if key.endswith("_token")}
    return Template(source, tuple(sorted((key, token) for key, token in tokens.items() if token is not None)))


def _token(value: object) -> str | None:
    """A special token: a string, or an AddedToken with its text in `content`; None for anything else."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _text(path: Path, limit: int) -> str:
    if not path.is_file():
        raise TemplateError(f"{path} is not a regular file", _KINDS)
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TemplateError(f"{path} is larger than {limit} bytes", "is this the right file?")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TemplateError(f"{path} is not UTF-8", "save it as UTF-8") from None
