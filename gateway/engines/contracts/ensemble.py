"""What the ensemble's tensor names mean; shared by NVIDIA's stock models and ours.

Source: NVIDIA/TensorRT-LLM, triton_backend/all_models/inflight_batcher_llm/ensemble/config.pbtxt.
"""

from __future__ import annotations

from gateway.engines.base import GUIDE_FEATURES, SAMPLING_FEATURES
from gateway.engines.contracts.request import Inputs
from gateway.engines.triton_interface import ModelInterface

NAMES = {
    "text": "text_input",
    "max_tokens": "max_tokens",
    "stream": "stream",
    "stop": "stop_words",
    "exclude_input": "exclude_input_in_output",
    "return_logprobs": "return_log_probs",
    "return_input_tokens": "return_num_input_tokens",
    "return_output_tokens": "return_num_output_tokens",
    "guide_type": "guided_decoding_guide_type",
    "guide": "guided_decoding_guide",
} | {name: name for name in SAMPLING_FEATURES if name != "logprobs"}

ALWAYS_TRUE = ("exclude_input", "return_input_tokens", "return_output_tokens")


def declares(interface: ModelInterface, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> bool:
    """Whether the model has all of these tensors."""
    return all(name in interface.inputs for name in inputs) and all(name in interface.outputs for name in outputs)


def features_of(interface: ModelInterface, inputs: Inputs) -> set[str]:
    """What the declared tensors allow. Log-probabilities come per response: without streaming they would be
    one number for the whole answer, which is not the feature."""
    features = inputs.sampling_features()
    if interface.streams and inputs.get("return_logprobs") is not None and "output_log_probs" in interface.outputs:
        features.add("logprobs")
    if inputs.get("guide_type") is not None and inputs.get("guide") is not None:
        features.update(GUIDE_FEATURES)
    return features


def counts_tokens(interface: ModelInterface) -> bool:
    """Whether the model gives both counts when asked."""
    return declares(
        interface,
        ("return_num_input_tokens", "return_num_output_tokens"),
        ("num_input_tokens", "num_output_tokens"),
    )
