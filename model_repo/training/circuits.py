"""Starts a model with heads that copy, instead of waiting for them to emerge.

A transformer learns to continue a text by its earlier occurrence (``B`` after ``A`` if ``A B`` was seen)
in two steps that only pay together: a head that carries the previous token along, and a head in a
later layer that looks for the place whose previous token is the current one. Gradient descent takes
millions of tokens to stumble on the pair, which is most of what a laptop can afford; so the pair is
written into the initial weights, and training is free to keep, sharpen or undo it. See Olsson et al.,
"In-context Learning and Induction Heads" (2022), for the mechanism.

The residual stream is split into orthogonal parts: one constant direction (the same in every
embedding, so that a head can attend by position alone), and three random subspaces of one head's
width: ``token`` (a part of the embedding), ``one_back`` and ``two_back`` (written by layer 0).
"""

from __future__ import annotations

from typing import cast

import torch
from model import Attention, Layer, Llama
from torch import Tensor

_SPREAD = 0.1
"""Standard deviation of embeddings, about what they grow to: were it less, growth would drown the circuits."""
_CONSTANT = 0.4
_CARRY, _MATCH, _COPY = 0.45, 2.5, 0.75
_SHARPNESS = 7.7
_FAST = 8
"""Rotary pairs before this one turn so fast that together they tell neighbouring positions apart."""
_SLOW = 16
"""Rotary pairs from this one on turn so slowly that they compare content over some hundred tokens."""


def _head(weight: Tensor, index: int, width: int) -> Tensor:
    """The rows of one head in a projection; columns for the transposed output projection."""
    return weight[index * width : (index + 1) * width]


def _look_back(
    attention: Attention, angles: Tensor, distances: tuple[int, int], read: Tensor, write: list[Tensor]
) -> None:
    """Makes the first two heads, which share keys, attend to fixed distances and carry ``read`` along."""
    width = attention.head_dim
    gain = _SHARPNESS * (_SPREAD**2 + _CONSTANT**2 / attention.q_proj.in_features) ** 0.5 / _CONSTANT
    key = _head(attention.k_proj.weight, 0, width)
    key.zero_()
    key[:_FAST, 0] = gain
    _head(attention.v_proj.weight, 0, width).copy_(_CARRY * read)
    for head, distance in enumerate(distances):
        query = _head(attention.q_proj.weight, head, width)
        query.zero_()
        turn = distance * angles[:_FAST]
        query[:_FAST, 0] = gain * torch.cos(turn)
        query[width // 2 : width // 2 + _FAST, 0] = -gain * torch.sin(turn)
        attention.o_proj.weight[:, head * width : (head + 1) * width] = _CARRY * write[head].T


def _match(attention: Attention, group: int, query: Tensor, key: Tensor, copied: Tensor) -> None:
    """Makes the first head of a group find where ``key`` equals the current ``query``, and copy the token there."""
    width = attention.head_dim
    head = group * attention.heads // attention.kv_heads
    slow = [*range(_SLOW, width // 2), *range(width // 2 + _SLOW, width)]
    for weight, index, source in ((attention.q_proj, head, query), (attention.k_proj, group, key)):
        rows = _head(weight.weight, index, width)
        rows.zero_()
        rows[slow] = _MATCH * source[: len(slow)]
    _head(attention.v_proj.weight, group, width).copy_(copied)
    attention.o_proj.weight[:, head * width : (head + 1) * width] = _COPY * copied.T


@torch.no_grad()
def install(model: Llama) -> None:
    """Writes the circuits into layers 0 and 1 of a new model."""
    shape = model.shape
    width = shape.head_dim
    random = torch.randn(shape.hidden_size - 1, shape.hidden_size - 1)
    basis = torch.zeros(shape.hidden_size, shape.hidden_size)
    basis[:-1, 1:] = torch.linalg.qr(random).Q
    token, one_back, two_back, rest = torch.split_with_sizes(basis, [width] * 4)
    model.embed_tokens.weight.normal_(std=_SPREAD)
    model.embed_tokens.weight[:, 0] = _CONSTANT
    layers = cast(list[Layer], list(model.layers))
    for layer in layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    angles = shape.rope_theta ** -(torch.arange(0, width, 2) / width)
    first, second = layers[0].self_attn, layers[1].self_attn
    _look_back(first, angles, (1, 2), token, [one_back, two_back])
    _match(second, 0, query=token, key=one_back, copied=token)
    _match(second, 1, query=one_back, key=two_back, copied=rest)


def keep_constant(model: Llama) -> None:
    """Drops the gradient of the constant direction; in the tied output it moves all logits alike anyway."""
    if (gradient := model.embed_tokens.weight.grad) is not None:
        gradient[:, 0] = 0.0
