"""A checked prompt -> GenAI's generation config."""

from __future__ import annotations

import secrets

import openvino_genai as genai

from penstock_engine.admission import Prompt

_GREEDY_BELOW = 0.01
"""Dividing by a temperature below this overflows f32 long before it could change the choice."""


def generation_config(prompt: Prompt, max_new_tokens: int, eos_ids: frozenset[int]) -> genai.GenerationConfig:
    """Build the config of one request.

    Args:
        max_new_tokens: what the context leaves of prompt.max_tokens.
        eos_ids: tokens that end the text; empty for none.

    Stop words aren't here: see `stopping`.
    """
    config = genai.GenerationConfig()
    config.apply_chat_template = False
    config.max_new_tokens = max_new_tokens
    config.min_new_tokens = min(prompt.min_tokens, max_new_tokens)
    config.stop_token_ids = set(eos_ids)
    if eos_ids:
        config.eos_token_id = min(eos_ids)
    else:
        config.ignore_eos = True
    config.repetition_penalty = prompt.repetition_penalty
    config.presence_penalty = prompt.presence_penalty
    config.frequency_penalty = prompt.frequency_penalty
    if prompt.temperature >= _GREEDY_BELOW:
        config.do_sample = True
        config.temperature = prompt.temperature
        config.top_p = prompt.top_p
        if prompt.top_k:
            config.top_k = prompt.top_k
        config.rng_seed = secrets.randbits(32) if prompt.seed is None else fold_seed(prompt.seed)
    if prompt.log_probs:
        config.logprobs = 1
    if prompt.guide is not None:
        structured = genai.StructuredOutputConfig()
        setattr(structured, prompt.guide.kind, prompt.guide.text)
        config.structured_output_config = structured
    return config


def fold_seed(seed: int) -> int:
    """64 bits into the 32 that GenAI looks at; a seed that fits is left alone.

    The multiplier is 2^64 divided by the golden ratio: it spreads every bit into the upper half.
    """
    if seed < 1 << 32:
        return seed
    return ((seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) >> 32
