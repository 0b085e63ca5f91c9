"""The model: a plain Llama decoder, small enough to train on a laptop's CPU.

Names of parameters are those of ``LlamaForCausalLM``, so a checkpoint is exported without a table
of translations. Positions are rotary with the half-split layout that ``transformers`` uses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes, under the names of a ``config.json``."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def as_config(self) -> dict[str, Any]:
        return {**asdict(self), "head_dim": self.head_dim}


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


class Attention(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            shape.num_attention_heads,
            shape.num_key_value_heads,
            shape.head_dim,
        )
        self.q_proj = _linear(shape.hidden_size, self.heads * self.head_dim)
        self.k_proj = _linear(shape.hidden_size, self.kv_heads * self.head_dim)
        self.v_proj = _linear(shape.hidden_size, self.kv_heads * self.head_dim)
        self.o_proj = _linear(self.heads * self.head_dim, shape.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: (batch, length, hidden); cos, sin: (length, head_dim / 2) → (batch, length, hidden), before ``o_proj``."""
        batch, length, _ = x.shape
        weights = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        mixed = F.linear(x, weights).view(batch, length, -1, self.head_dim).transpose(1, 2)
        turned, v = torch.split_with_sizes(mixed, [self.heads + self.kv_heads, self.kv_heads], dim=1)
        left, right = turned.chunk(2, dim=-1)
        turned = torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
        q, k = torch.split_with_sizes(turned, [self.heads, self.kv_heads], dim=1)
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).reshape(batch, length, -1)


class FeedForward(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = _linear(shape.hidden_size, shape.intermediate_size)
        self.up_proj = _linear(shape.hidden_size, shape.intermediate_size)
        self.down_proj = _linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, picked: Tensor | None = None) -> Tensor:
        """``picked``: (batch, length), the positions that are wanted: only they pass the parts that see no other."""
        y = self.self_attn(self.input_layernorm(x), cos, sin)
        if picked is not None:
            x, y = x[picked], y[picked]
        x = x + self.self_attn.o_proj(y)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Llama(nn.Module):
    """Embeds, runs the layers and normalises; ``logits`` applies the tied output head."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        frequencies = shape.rope_theta ** -(torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = torch.arange(shape.max_position_embeddings)[:, None] * frequencies[None]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor, picked: Tensor) -> Tensor:
        """ids, picked: (batch, length) → hidden states of the picked positions (positions, hidden)."""
        length = ids.shape[1]
        x: Tensor = self.embed_tokens(ids)
        for layer in self.layers:
            wanted = picked if layer is self.layers[-1] else None
            x = layer(x, self.cos[:length], self.sin[:length], wanted)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embed_tokens.weight)
