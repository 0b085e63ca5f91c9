"""Triton models for tests that imitate NVIDIA's two stock contracts, warts included, without TensorRT-LLM.

`tests/models` is the classic repository, and a real ensemble: preprocessing → tensorrt_llm → postprocessing,
with tensorrt_llm_bls beside it. `tests/models_llmapi` is the newer one: a single tensorrt_llm. Names, types,
dims and optional flags of the tensors are those of the stock config.pbtxt files (NVIDIA/TensorRT-LLM,
triton_backend/all_models, read in November 2026).

What they "generate" is a function of the prompt alone (see `plan`), so that a wrong or mixed-up answer shows,
and words in the prompt choose pace, size and faults. What happens to each request is written down as it
happens (see `events`), so that a test can prove that a cancel reached the model, and when.
"""
