"""What a model on a Triton server declares about itself: the pure picture of its ModelConfig.

Contracts are recognised and bound by this alone, so that all of them can be tested without a server.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class TensorSpec(Struct, frozen=True, gc=False):
    """One declared tensor: KServe's dtype name ("BYTES", "INT32" …), dims without the batch dimension."""

    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


class ModelInterface(Struct, frozen=True):
    """One version of one model. `version` is "" for the server's choice; `steps` are an ensemble's models.

    `parameters` are the config's string parameters; `${name}`, a template's placeholder that nobody filled
    in, counts as absent, as it does for NVIDIA's models.
    """

    name: str
    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    max_batch_size: int = 0
    decoupled: bool = False
    platform: str = ""
    backend: str = ""
    parameters: Mapping[str, str] = {}
    steps: tuple[str, ...] = ()

    @property
    def batched(self) -> bool:
        """Whether shapes begin with a batch dimension."""
        return self.max_batch_size > 0

    @property
    def ensemble(self) -> bool:
        return bool(self.steps) or self.platform == "ensemble"

    @property
    def streams(self) -> bool:
        """Whether a request may have more than one response. An ensemble's own config need not tell."""
        return self.decoupled or self.ensemble

    def parameter(self, name: str) -> str:
        """A parameter's value, "" where it is not set."""
        value = self.parameters.get(name, "")
        return "" if value.startswith("${") else value

    def flag(self, name: str) -> bool:
        """A parameter read as NVIDIA's models read booleans."""
        return self.parameter(name).lower() in ("true", "yes", "1", "t")
