"""Contract `trtllm-ensemble`: NVIDIA's stock `ensemble` and `tensorrt_llm_bls` (TensorRT-LLM up to 1.2).

Its warts, and what is done about them:

- no finish reason: `length` is inferred from the token count;
- the prompt is echoed unless `exclude_input_in_output` says no; where that is not declared we take it off;
- the ensemble detokenizes each chunk alone; BLS with `accumulate_tokens` repeats the text so far instead;
- temperature 0 is not greedy, top_k 1 is; and a temperature without top_p or top_k changes nothing;
- cancelling a call does not reach the engine: a second request with the same id and `stop` goes straight to
  `tensorrt_llm`. BLS gives its inner request an id of its own, so there it may miss;
- guides are declared even where the engine was built without a backend for them: its own config tells.

Sources: NVIDIA/TensorRT-LLM, triton_backend/all_models/inflight_batcher_llm (config.pbtxt of ensemble,
tensorrt_llm_bls and tensorrt_llm; decode.py) and client/inflight_batcher_llm_client.py for the stop request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.core.utf8 import Utf8Joiner
from gateway.engines.base import GUIDE_FEATURES, Job
from gateway.engines.contracts.ensemble import ALWAYS_TRUE, NAMES, counts_tokens, declares, features_of
from gateway.engines.contracts.model import ModelBinding, text_source
from gateway.engines.contracts.request import Inputs, RequestEncoder
from gateway.engines.contracts.text import CumulativeText
from gateway.engines.triton_interface import ModelInterface
from gateway.engines.triton_wire import InputTensor, RequestTemplate
from gateway.routing.version import Version

_ENGINE = "tensorrt_llm"
_STOP_INPUTS = ("input_ids", "input_lengths", "request_output_len", "stop")
_GUIDE_BACKEND = "guided_decoding_backend"


class TrtllmEnsemble:
    """See the module."""

    name = "trtllm-ensemble"

    def matches(self, interface: ModelInterface) -> bool:
        return declares(interface, ("text_input", "max_tokens"), ("text_output",))

    def companions(self, interface: ModelInterface) -> tuple[str, ...]:
        """The engine's model: named in a parameter by BLS, a step of an ensemble, else by custom."""
        named = interface.parameter("tensorrt_llm_model_name")
        candidates = (named, *interface.steps, _ENGINE) if named else (*interface.steps, _ENGINE)
        return tuple(dict.fromkeys(candidates))

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
            greedy="top_k",
            needs_top_p=True,
            default_max_tokens=version.defaults.max_tokens,
        )
        engine = self._engine(interface, companions)
        features = features_of(interface, inputs)
        if engine is not None and _GUIDE_BACKEND in engine.parameters and not engine.parameter(_GUIDE_BACKEND):
            features.difference_update(GUIDE_FEATURES)
        excludes = "exclude_input_in_output" in interface.inputs
        cumulative = interface.flag("accumulate_tokens")
        return ModelBinding(
            self.name,
            version.label,
            interface.name,
            frozenset(features),
            encoder,
            text=text_source(version.text_mode, CumulativeText if cumulative else Utf8Joiner),
            counts_tokens=counts_tokens(interface),
            echoes=not excludes and not (engine is not None and engine.flag("exclude_input_in_output")),
            stop=_stop_request(engine) if engine is not None else None,
        )

    def _engine(self, interface: ModelInterface, companions: Mapping[str, ModelInterface]) -> ModelInterface | None:
        # The first that takes a stop request.
        for name in self.companions(interface):
            engine = companions.get(name)
            if engine is not None and all(tensor in engine.inputs for tensor in _STOP_INPUTS):
                return engine
        return None


def _stop_request(engine: ModelInterface) -> Callable[[Job], bytes]:
    # Values as NVIDIA's client sends them: no tokens, no output, stop.
    constants = []
    for name in _STOP_INPUTS:
        spec = engine.inputs[name]
        tensor = InputTensor(name, spec.dtype, spec.dims, batched=engine.batched)
        constants.append((tensor, tensor.scalar(name == "stop")))
    template = RequestTemplate(engine.name, "", constants)
    return lambda job: template.encode(job.id.encode(), (), ())
