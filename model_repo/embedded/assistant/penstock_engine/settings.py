"""What a model directory says about itself: parameters of config.pbtxt and facts of the weights.

The weights are found by one parameter, `model_path`. What the engine must know of them (context
length, end-of-text tokens) is read from the files that lie beside them, in the order in which they
are likely to be right: config.json, then the GGUF header. Nothing here imports OpenVINO.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock_engine.gguf_header import read_gguf_metadata

KV_BLOCK_TOKENS = 32
"""Tokens in one block of GenAI's paged KV cache on CPU."""


class SettingsError(ValueError):
    """The model directory can't be served; the message says which file or parameter is wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of config.pbtxt, typed and checked."""

    model_path: Path
    kv_blocks: int = 2048
    max_num_batched_tokens: int = 256
    max_num_seqs: int = 128
    threads: int = 0
    coalesce_s: float = 0.015
    max_messages_per_s: int = 1000
    max_context: int = 0

    @classmethod
    def read(cls, parameters: Mapping[str, str], version_dir: Path) -> Settings:
        """Check the parameters of one model version.

        Raises:
            SettingsError: an unknown parameter, a number that isn't one, or no such model file.
        """
        known = {"model_path", "kv_blocks", "max_num_batched_tokens", "max_num_seqs",
                 "threads", "coalesce_ms", "max_messages_per_s", "max_context"}  # fmt: skip
        unknown = sorted(set(parameters) - known)
        if unknown:
            raise SettingsError(f"unknown parameter {unknown[0]!r}; known are {sorted(known)}")

        def whole(key: str, default: int, least: int) -> int:
            text = parameters.get(key, str(default))
            try:
                value = int(text)
            except ValueError:
                raise SettingsError(f"parameter {key} is {text!r}, not a whole number") from None
            if value < least:
                raise SettingsError(f"parameter {key} is {value}; the least is {least}")
            return value

        path = version_dir / parameters.get("model_path", "model.gguf")
        if not path.exists():
            raise SettingsError(f"no model at {path}: put a .gguf file or an OpenVINO folder there")
        return cls(
            model_path=path.resolve(),
            kv_blocks=whole("kv_blocks", 2048, 0),
            max_num_batched_tokens=whole("max_num_batched_tokens", 256, 1),
            max_num_seqs=whole("max_num_seqs", 128, 1),
            threads=whole("threads", 0, 0),
            coalesce_s=whole("coalesce_ms", 15, 0) / 1000,
            max_messages_per_s=whole("max_messages_per_s", 1000, 1),
            max_context=whole("max_context", 0, 0),
        )

    @property
    def folder(self) -> Path:
        """Where tokenizer.json and config.json are looked for."""
        return self.model_path if self.model_path.is_dir() else self.model_path.parent


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the engine must know of the weights to refuse what they can't do."""

    context: int
    """Prompt plus answer, in tokens."""
    eos_ids: frozenset[int]
    """Any of these ends the text. May be empty when no file names one."""

    @classmethod
    def read(cls, settings: Settings) -> ModelFacts:
        """Look the facts up beside the weights.

        Raises:
            SettingsError: no file says how long the context is, and no parameter does.
        """
        config = _read_json(settings.folder / "config.json")
        generation = _read_json(settings.folder / "generation_config.json")
        header: Mapping[str, Any] = {}
        if settings.model_path.is_file():
            header = read_gguf_metadata(settings.model_path)
        architecture = header.get("general.architecture", "")
        context = (
            settings.max_context
            or config.get("max_position_embeddings")
            or header.get(f"{architecture}.context_length")
        )
        if not isinstance(context, int) or context < 2:
            raise SettingsError(
                f"{settings.model_path}: no context length found in config.json or the GGUF header;"
                " set parameter max_context in config.pbtxt"
            )
        if settings.kv_blocks:
            context = min(context, settings.kv_blocks * KV_BLOCK_TOKENS)
        eos: set[int] = set()
        for source in (generation, config):
            named = source.get("eos_token_id")
            eos.update([named] if isinstance(named, int) else named or [])
        if not eos and isinstance(header.get("tokenizer.ggml.eos_token_id"), int):
            eos.add(header["tokenizer.ggml.eos_token_id"])
        return cls(context=context, eos_ids=frozenset(eos))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as exc:
        raise SettingsError(f"{path} is not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{path} holds no JSON object")
    return value
