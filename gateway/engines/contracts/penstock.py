"""Contract `penstock`: the ensemble's tensors, and a `finish_reason`. Models of ours speak it.

More than stock: the finish reason is told, temperature 0 is greedy, cancelling the call reaches the model,
and `output_tokens` gives each chosen token beside its log-probability.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.utf8 import Utf8Joiner
from gateway.engines.contracts.ensemble import ALWAYS_TRUE, NAMES, counts_tokens, declares, features_of
from gateway.engines.contracts.model import ModelBinding, text_source
from gateway.engines.contracts.request import Inputs, RequestEncoder
from gateway.engines.triton_interface import ModelInterface
from gateway.routing.version import Version


class Penstock:
    """See the module."""

    name = "penstock"

    def matches(self, interface: ModelInterface) -> bool:
        return declares(interface, ("text_input", "max_tokens"), ("text_output", "finish_reason"))

    def companions(self, interface: ModelInterface) -> tuple[str, ...]:
        return ()

    def bind(
        self, interface: ModelInterface, version: Version, companions: Mapping[str, ModelInterface]
    ) -> ModelBinding:
        """Errors: BindError."""
        inputs = Inputs(interface, NAMES)
        encoder = RequestEncoder(
            interface,
            version.model_version,
            inputs,
            always_true=ALWAYS_TRUE,
            greedy="temperature",
            needs_top_p=False,
            default_max_tokens=version.defaults.max_tokens,
        )
        return ModelBinding(
            self.name,
            version.label,
            interface.name,
            frozenset(features_of(interface, inputs)),
            encoder,
            text=text_source(version.text_mode, Utf8Joiner),
            counts_tokens=counts_tokens(interface),
            echoes="exclude_input_in_output" not in interface.inputs,
        )
