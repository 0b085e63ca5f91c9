"""Writes a Llama as GGUF with Q8_0 matrices.

The stock converter knows published tokenizers only, so the file is written here. Two conventions
matter: rotary pairs are interleaved in GGUF (``interleave_rotary``), and the pre-tokenizer is named,
not described (``qwen2``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMAL, _CONTROL = 1, 3
_MOSTLY_Q8_0 = 7


def interleave_rotary(weight: Array, heads: int) -> Array:
    """(heads * head_dim, inputs): from halves side by side to neighbouring pairs."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _add_shape(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(_MOSTLY_Q8_0)


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: Mapping[str, Any]) -> None:
    described = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    size = config["vocab_size"]
    tokens, kinds = [""] * size, [_NORMAL] * size
    for token, index in described["model"]["vocab"].items():
        tokens[index] = token
    for added in described["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], _CONTROL
    merges = described["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    template = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    writer.add_chat_template(template)


def _add_matrix(writer: gguf.GGUFWriter, name: str, weight: Array) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)


def write_gguf(path: Path, name: str, weights: Mapping[str, Array], config: Mapping[str, Any], folder: Path) -> None:
    """weights: float32 under the names of ``LlamaForCausalLM``; folder: where the tokenizer's files lie."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_license("Apache-2.0")
    _add_shape(writer, config)
    _add_tokenizer(writer, folder, config)
    _add_matrix(writer, "token_embd", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for layer in range(config["num_hidden_layers"]):
        for ours, theirs in _LAYER_NAMES.items():
            weight = weights[f"model.layers.{layer}.{ours}.weight"]
            full_name = f"blk.{layer}.{theirs}"
            if weight.ndim == 1:
                writer.add_tensor(f"{full_name}.weight", weight)
            else:
                turned = interleave_rotary(weight, heads[theirs]) if theirs in heads else weight
                _add_matrix(writer, full_name, turned)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
