"""Contract `trtllm-llmapi`: NVIDIA's stock PyTorch-based `tensorrt_llm` model on the LLM API.

Its warts, and what is done about them:

- max_tokens is 32 unless it is sent, and the prompt is echoed unless told otherwise: both are always sent;
- a stream repeats the text so far, which a later version may change: it is detected, or set per version;
- `finish_reason` is the string "None" until the end;
- no token counts, log-probabilities, guides or repetition penalty: refused by name; tokens are counted with
  the version's tokenizer;
- `sampling_param_stop` is declared, but the model hands the bytes of the tensor to a tokenizer that takes
  strings: it is not sent; the gateway looks for stop strings itself and cancels the call;
- streaming works only where its config says `decoupled`.

Sources: NVIDIA/TensorRT-LLM, triton_backend/all_models/llmapi/tensorrt_llm (config.pbtxt, 1/model.py,
1/helpers.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.engines.contracts.ensemble import declares
from gateway.engines.contracts.model import ModelBinding, detecting, text_source
from gateway.engines.contracts.request import Inputs, RequestEncoder
from gateway.engines.triton_interface import ModelInterface
from gateway.routing.version import Version

_EXCLUDE = "sampling_param_exclude_input_from_output"
_NAMES = {
    "text": "text_input",
    "max_tokens": "sampling_param_max_tokens",
    "stream": "streaming",
    "exclude_input": _EXCLUDE,
    "return_finish": "return_finish_reason",
} | {
    name: f"sampling_param_{name}"
    for name in ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")
}


class TrtllmLlmapi:
    """See the module."""

    name = "trtllm-llmapi"

    def matches(self, interface: ModelInterface) -> bool:
        return declares(interface, ("text_input", "sampling_param_max_tokens"), ("text_output",))

    def companions(self, interface: ModelInterface) -> tuple[str, ...]:
        return ()

    def bind(
        self, interface: ModelInterface, version: Version, companions: Mapping[str, ModelInterface]
    ) -> ModelBinding:
        """Errors: BindError."""
        inputs = Inputs(interface, _NAMES)
        encoder = RequestEncoder(
            interface,
            version.model_version,
            inputs,
            always_true=("exclude_input", "return_finish"),
            greedy="top_k",
            needs_top_p=True,
            default_max_tokens=version.defaults.max_tokens,
        )
        return ModelBinding(
            self.name,
            version.label,
            interface.name,
            frozenset(inputs.sampling_features()),
            encoder,
            text=text_source(version.text_mode, detecting()),
            counts_tokens=False,
            echoes=_EXCLUDE not in interface.inputs,
        )
